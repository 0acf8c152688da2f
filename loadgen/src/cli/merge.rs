//! `loadgen merge`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `loadgen merge`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = MERGE_EXAMPLES)]
pub struct MergeArgs {
    /// Result files, or folders with a result.json
    #[arg(required = true, value_name = "FILES")]
    pub files: Vec<PathBuf>,

    /// Write result.json, report.html, run.hlog and accept_delay.hgrm of the sum into this folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

const MERGE_EXAMPLES: &str = "\
Counts and histograms are added exactly. Evidence of one server at one time is counted once; what
the parts differ in is left out and named. All shards of a divided run have to be there, each once.

Examples:
  loadgen merge shard-0 shard-1 shard-2 --out all   a run divided with --shard
  loadgen merge rounds/* --out all                  rounds of the same measurement

Exit status: 0 fine, 1 runtime error, 2 files that cannot be merged, 3 an
objective is missed by the sum, 4 a part is INVALID.";
