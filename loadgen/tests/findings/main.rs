//! What loadgen says of a run: the verdict, the causes it names, the address it means. Small
//! servers of blocking sockets bring each about; what needs a network namespace of its own skips
//! loudly where none can be made.

mod causes;
mod documented;
#[path = "../common/namespace.rs"]
mod namespace;
mod support;
mod target;
mod verdict;
