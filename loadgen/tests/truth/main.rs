//! What loadgen says, held to the truth: servers that keep their own record of when they accepted,
//! and the kernel's own counters. Nothing here depends on how fast the machine is: what is recorded
//! bounds what may be reported.

mod delays;
mod drifting;
mod memory;
#[path = "../common/namespace.rs"]
mod namespace;
mod overflow;
mod remote;
mod server;
#[path = "../common/stamp.rs"]
mod stamp;
mod stopped;
