//! One module per subcommand: each wires the layers below and computes nothing itself.

pub mod hold;
pub mod run;
pub mod torture;
