//! `loadgen torture`.

use std::path::PathBuf;

use clap::Args;

use super::target::TargetArgs;

/// Arguments of `loadgen torture`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit status: 0 all passed, 1 some failed or nobody there.")]
pub struct TortureArgs {
    /// Echo server to try, host:port
    pub addr: String,

    /// How the address is understood.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Only the case of this name, or those whose names begin like it (repeatable)
    #[arg(long, value_name = "NAME")]
    pub case: Vec<String>,

    /// Smaller numbers, for a run of seconds
    #[arg(long)]
    pub quick: bool,

    /// The server's process: it is stopped and continued, and its memory and descriptors compared
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Write the results as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
