//! `loadgen compare`.

use std::path::PathBuf;

use clap::Args;

use super::values::parse_phase;
use crate::model::outcome::Phase;
use crate::model::quantile::Quantile;

/// Arguments of `loadgen compare`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// A result file, or a folder whose result.json files are the rounds of A
    pub a: PathBuf,

    /// The same for B
    pub b: PathBuf,

    /// Durations to compare
    #[arg(long, value_name = "PHASE", value_parser = parse_phase, default_value = "accept_delay")]
    pub phase: Phase,

    /// Percentile to compare (repeatable) [default: p50 and p99]
    #[arg(long, value_name = "P")]
    pub quantile: Vec<Quantile>,

    /// Write the comparison as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

const COMPARE_HELP: &str = "\
At least 5 rounds of each are needed. Rounds of the same name (A/1 and B/1) are compared with each
other, which cancels what slowed both; loadgen sweep measures such rounds in turns. The interval is
a bootstrap interval of the ratio; two samples of one distribution are called different in less
than 5 % of cases.

Examples:
  loadgen sweep --over backlog=5,4096 --rounds 5 --out out
  loadgen compare out/backlog=5 out/backlog=4096 --quantile p50 --quantile p99.9

Exit status: 0 compared, whatever it found; 1 runtime error; 2 usage, or a file that is no result.";
