//! `loadgen torture`.

use std::path::PathBuf;

use clap::Args;

use super::target::TargetArgs;

/// Arguments of `loadgen torture`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = TORTURE_EXAMPLES)]
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

    /// The server's process: it is stopped for a second and continued, also when this program is
    /// killed meanwhile, and its memory and descriptors are compared
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Write the results as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

const TORTURE_EXAMPLES: &str = "\
Examples:
  loadgen torture 127.0.0.1:7777 --quick
  loadgen torture 127.0.0.1:7777 --case stop-continue --pid $(pidof -s uring-echo)

What cannot be tried here (too few descriptors, no free port) is skipped with the remedy.

Exit status: 0 none failed, 1 some failed, none could be tried or nobody there, 2 usage.";
