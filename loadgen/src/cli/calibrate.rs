//! `loadgen calibrate`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `loadgen calibrate`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = CALIBRATE_HELP)]
pub struct CalibrateArgs {
    /// Keep the result in this file instead of the user's cache; runs find only that in the cache
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Write the result as JSON to this file too; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

const CALIBRATE_HELP: &str = "\
The result is kept in $XDG_CACHE_HOME/loadgen (else ~/.cache/loadgen) for this boot of this machine.
Later reports quote it, and call a delay that is not above it within the floor: there the machine
was measured, and not the server. Run it while the machine is as busy as it will be.

Examples:
  loadgen calibrate                         once per boot, before runs that are to be quoted
  loadgen calibrate --json - | jq .accept_delay.p50_ns
  loadgen calibrate --out floor.json        only kept beside the results, not quoted

Exit status: 0 measured, 1 runtime error, 2 usage.";
