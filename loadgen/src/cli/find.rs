//! `loadgen find`.

use clap::Args;

use super::run::RunArgs;
use super::values::parse_rate;

/// Arguments of `loadgen find`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = FIND_HELP)]
pub struct FindArgs {
    /// Rate to begin with, connections per second
    #[arg(long, value_name = "N", value_parser = parse_rate, default_value = "100")]
    #[arg(conflicts_with = "shape", help_heading = "Search")]
    pub min: f64,

    /// Highest rate to try
    #[arg(long, value_name = "N", value_parser = parse_rate, default_value = "1m")]
    #[arg(conflicts_with = "shape", help_heading = "Search")]
    pub max: f64,

    /// What each run does. --out keeps the runs, the table and the picture
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of find itself, which take a value and are not those of its runs.
pub const FIND_FLAGS: [&str; 4] = ["--min", "--max", "--out", "--json"];

const FIND_HELP: &str = "\
The rate is doubled until it misses an objective, then narrowed to within 5 %. A run that misses is
believed only if a second one of three confirms it, and the rate that is found and the next one
above it are confirmed by three of at most five runs. Each run takes 3 s unless --duration or
--connections says otherwise. Without an objective on outcomes completed>=99% is added, so that a
server that drops connections does not pass for a fast one.

A rate that the generator cannot offer as planned says nothing about the server: the limit is then
called the generator's.

Examples:
  loadgen find --slo 'accept_delay.p99<1ms' -- --engine epoll
  loadgen find 127.0.0.1:8000 --slo 'accept_delay.p99<5ms' --max 20k --out out

Exit status: 0 found, 1 runtime error, 2 usage, 3 the lowest rate misses already, 4 the generator
cannot offer even that one, 130 interrupted.";
