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
Each case is what some client does one day: half-closed and reset connections, single bytes, large
messages, slow readers, crowds, signals. Every byte that comes back is compared. What cannot be
tried here (too few descriptors, no free port) is skipped with the remedy.

Examples:
  loadgen torture 127.0.0.1:7777                    all of it, on any echo server
  loadgen torture 127.0.0.1:7777 --quick            the same with smaller numbers
  loadgen torture 127.0.0.1:7777 --case half-close  only the cases whose names begin like this
  loadgen torture 127.0.0.1:7777 --case stop-continue --pid $(pidof -s uring-echo)

Exit status: 0 none failed, 1 some failed, none could be tried or nobody there, 2 usage.";
