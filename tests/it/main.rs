//! Integration tests: the real program, real sockets, every engine.
//!
//! - `tcp_contract`: what manual pages and RFCs promise about socket, bind, listen, accept, connect
//! - `echo`: every byte comes back, once, in order, whatever the peer does
//! - `limits`: what happens at a limit
//! - `resources`: what a connection costs the process, and that all of it is freed
//! - `sandbox`: the restrictions of the running process
//! - `steering`: a connection goes to the worker on the CPU that received it
//! - `stop`: nothing accepted or queued is lost when the server is told to end
//! - `log`: a log that nobody reads, or that cannot be written, hurts nobody
//! - `slow_peers`: peers that read slowly, or not at all, beside others
//! - `torture`: resets, floods and signals while connections are in use
//! - `soak`: clients of several kinds at once, for as long as asked for
//! - `denied`: what is left of it where io_uring is denied
//! - `cli`: messages and exit codes
//! - `walls`: which module may use which; `paths` reads the sources for it
//! - `tidy`: house rules about lines and functions

mod admin;
mod background;
mod cli;
mod config;
mod denied;
mod echo;
mod limits;
mod log;
mod manual;
mod notify;
mod paths;
mod resources;
mod sandbox;
mod slow_peers;
mod soak;
mod sources;
mod steering;
mod stop;
mod support;
mod takeover;
mod tcp_contract;
mod tidy;
mod torture;
mod walls;
