//! One module per subcommand: each wires the layers below and computes nothing itself.

pub mod compare;
mod envelope;
pub mod exit;
pub mod export;
pub mod hold;
pub mod manual;
pub mod merge;
mod names;
pub mod report;
pub mod run;
mod target;
pub mod torture;
pub mod trace;
