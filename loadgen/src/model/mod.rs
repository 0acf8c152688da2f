//! The data that a run produces, and pure functions over it. Loading is the only I/O.
//!
//! [`result::RunResult`] is the schema of `result.json`; the other modules are its parts.
//! [`file`](mod@file) reads every version and writes the newest, [`migrate`] converts each version
//! to the next.

pub mod comparison;
pub mod environment;
pub mod evidence;
pub mod file;
pub mod floor;
pub mod folder;
pub mod found;
pub mod histogram;
pub mod hold;
pub mod interval;
pub mod live;
pub mod load;
pub mod merge;
pub mod migrate;
pub mod outcome;
pub mod quantile;
pub mod result;
pub mod server;
pub mod sweep;
pub mod torture;
pub mod trace;
pub mod verdict;
pub mod watch;
pub mod watch_live;
