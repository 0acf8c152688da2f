//! `loadgen sweep`.

use clap::Args;

use super::run::RunArgs;
use super::values::{parse_count_u32, parse_over, parse_rates};

/// Arguments of `loadgen sweep`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = SWEEP_HELP)]
pub struct SweepArgs {
    /// Rates to run at: a list, ranges with their step, or both (1k,2k,5k..10k:1k)
    #[arg(long, value_name = "RATES", value_parser = parse_rates, conflicts_with = "shape")]
    #[arg(help_heading = "Sweep")]
    pub rates: Option<Rates>,

    /// Values of a flag of the embedded server, or of run (repeatable): backlog=5,128,4096
    #[arg(long, value_name = "FLAG=V1,V2", value_parser = parse_over, help_heading = "Sweep")]
    pub over: Vec<Over>,

    /// How often each cell is measured; compare needs 5
    #[arg(long, value_name = "N", value_parser = parse_count_u32, default_value = "5")]
    #[arg(help_heading = "Sweep")]
    pub rounds: u32,

    /// What each run does. --out is the folder of the sweep [default: a new one named by the time]
    #[command(flatten)]
    pub run: RunArgs,
}

/// Rates of a sweep, each once, in the order typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(pub Vec<f64>);

/// Values of one flag, each once, in the order typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Without dashes.
    pub flag: String,
    /// At least one.
    pub values: Vec<String>,
}

/// Flags of sweep itself, which take a value and are not those of its runs.
pub const SWEEP_FLAGS: [&str; 5] = ["--rates", "--over", "--rounds", "--out", "--json"];

const SWEEP_HELP: &str = "\
Every combination of rates and values is a cell. The cells take turns, so that what changes on the
machine meets all of them, and each round is a run of its own: DIR/<cell>/<round>/result.json. The
table is printed and kept with the picture in DIR (sweep.json, sweep.svg).

A sweep that was stopped goes on where it was: the same command with the same --out runs only the
rounds that have no whole result.

Examples:
  loadgen sweep --rates 1k,2k,5k --duration 5s
  loadgen sweep --over engine=uring,epoll --over backlog=5,4096 --rate 3k --out out
  loadgen sweep 127.0.0.1:8000 --rates 500..2k:500 --over size=64,4k
  loadgen compare out/backlog=5 out/backlog=4096

Exit status: 0 fine, 1 a run failed, 2 usage, 3 objective missed, 130 interrupted.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn sweep(args: &str) -> Result<SweepArgs, clap::Error> {
        let words = ["loadgen", "sweep"].into_iter().chain(args.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Sweep(sweep) => *sweep,
            other => panic!("not a sweep: {other:?}"),
        })
    }

    #[test]
    fn rates_are_lists_and_ranges() {
        let rates = |args: &str| sweep(&format!("--rates {args}")).unwrap().rates.unwrap().0;
        assert_eq!(rates("1k,2k,5k"), [1000.0, 2000.0, 5000.0]);
        assert_eq!(rates("1k..3k:1k"), [1000.0, 2000.0, 3000.0]);
        assert_eq!(rates("5,1..2:0.5,5"), [5.0, 1.0, 1.5, 2.0]);
        assert_eq!(rates("0.1..0.5:0.1").len(), 5);
    }

    #[test]
    fn what_is_no_sweep_is_a_usage_error() {
        for args in [
            "--rates 0",
            "--rates 1k..2k",
            "--rates 2k..1k:1k",
            "--rates 1..1m:1",
            "--rates 1k..2k:0",
            "--rates ,",
            "--rates fast",
            "--rates 1k --rate 2k",
            "--rates 1k --concurrency 5",
            "--over backlog",
            "--over backlog=",
            "--over backlog=1,,2",
            "--over =1",
            "--over a/b=1",
            "--rounds 0",
        ] {
            let error = sweep(args).expect_err(args);
            assert_eq!(error.exit_code(), 2, "{args}: {error}");
        }
        let over = sweep("--over=--backlog=5,128,5").unwrap().over;
        assert_eq!(over, [Over { flag: "backlog".into(), values: vec!["5".into(), "128".into()] }]);
    }
}
