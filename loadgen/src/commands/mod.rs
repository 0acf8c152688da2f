//! One module per subcommand: each wires the layers below and computes nothing itself.

pub mod calibrate;
mod child_run;
pub mod compare;
mod envelope;
pub mod exit;
pub mod export;
pub mod find;
pub mod hold;
pub mod manual;
pub mod merge;
mod names;
pub mod report;
pub mod run;
pub mod sweep;
mod target;
pub mod torture;
pub mod trace;
pub mod watch;
