//! For tests: what a command line means.

use clap::Parser;

use crate::cli::hold::HoldArgs;
use crate::cli::run::RunArgs;
use crate::cli::{Cli, Command};
use crate::commands::run::options;
use crate::plan::config::RunConfig;

/// `loadgen run` with these arguments.
pub(crate) fn run_args(args: &str) -> RunArgs {
    let line = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
    match Cli::try_parse_from(line).expect(args).command {
        Command::Run(run) => *run,
        other => panic!("{args} is {other:?}"),
    }
}

/// `loadgen hold` with these arguments.
pub(crate) fn hold_args(args: &str) -> HoldArgs {
    let line = ["loadgen", "hold"].into_iter().chain(args.split_whitespace());
    match Cli::try_parse_from(line).expect(args).command {
        Command::Hold(hold) => hold,
        other => panic!("{args} is {other:?}"),
    }
}

/// The run that these arguments ask for.
pub(crate) fn config(args: &str) -> RunConfig {
    options::resolve(&run_args(args)).expect(args)
}
