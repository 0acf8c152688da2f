//! Runs uring-echo beside its peers under the same load on the same core, and prints what each does
//! with spread and ratios. `BENCHMARKING.md` tells what the numbers mean.

mod availability;
mod bench;
mod builds;
mod candidate;
mod child;
mod client;
mod cpu_contention;
mod cpu_meter;
mod crowd;
mod floor;
mod loadgen_result;
mod machine;
mod namespace;
mod process;
mod report;
mod rounds;
mod run;
mod sample;
mod server;
mod span;
mod standing;
mod stop;
mod syscalls;
mod tables;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs uring-echo beside its peers and prints what each does, with spread and ratios.
#[derive(Debug, Parser)]
#[command(name = "versus", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    run: run::Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that the harness starts as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// A load generator: an epoll loop that compares every byte
    Client(client::Options),
    /// The classic scene: a blocking thread for each connection
    Crowd(crowd::Options),
    /// A server as bare as can be, as a yardstick
    Floor(floor::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.part {
        None => run::run(&args.run),
        Some(Part::Client(options)) => client::run(options),
        Some(Part::Crowd(options)) => crowd::run(options),
        Some(Part::Floor(options)) => floor::run(options).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error:#}");
            ExitCode::FAILURE
        }
    }
}
