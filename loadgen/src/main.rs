//! loadgen: how long did connections wait to be accepted?

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Error, Result};
use loadgen::cli::{self, Command};
use loadgen::commands::compare::CompareFailure;
use loadgen::commands::exit::ExitStatus;
use loadgen::commands::export::ExportError;
use loadgen::commands::find::FindError;
use loadgen::commands::hold::HoldError;
use loadgen::commands::merge::MergeCommandError;
use loadgen::commands::report::ReportError;
use loadgen::commands::run::RunError;
use loadgen::commands::sweep::SweepError;
use loadgen::commands::torture::TortureError;
use loadgen::commands::trace::TraceError;
use loadgen::commands::watch::WatchError;
use loadgen::commands::{
    calibrate, compare, export, find, hold, manual, merge, report, run, sweep, torture, trace,
    watch,
};
use loadgen::server;

fn main() -> ExitCode {
    let mut args = env::args_os();
    match args.nth(1) {
        Some(first) if first == server::SERVE => return serve(args),
        Some(first) if first == hold::HOLD => {
            return done(hold::holder(args).map(|()| ExitStatus::Fine));
        }
        Some(first) if first == torture::GUARD => {
            return done(torture::guard().map(|()| ExitStatus::Fine));
        }
        _ => {}
    }
    match cli::parse().command {
        Command::Run(args) => {
            ended(run::execute(&args), |e| matches!(e, RunError::Config(error) if error.is_usage()))
        }
        Command::Torture(args) => ended(torture::execute(&args), TortureError::is_usage),
        Command::Hold(args) => ended(hold::execute(&args), HoldError::is_usage),
        Command::Watch(args) => ended(watch::execute(&args), WatchError::is_usage),
        Command::Trace(args) => ended(trace::execute(&args), TraceError::is_usage),
        Command::Report(args) => {
            let outcome = report::execute(&args).map(|()| ExitStatus::Fine);
            ended(outcome, |error| matches!(error, ReportError::Load(_)))
        }
        Command::Compare(args) => {
            let outcome = compare::execute(&args).map(|()| ExitStatus::Fine);
            ended(outcome, CompareFailure::is_usage)
        }
        Command::Sweep(args) => ended(sweep::execute(&args), SweepError::is_usage),
        Command::Find(args) => ended(find::execute(&args), FindError::is_usage),
        Command::Calibrate(args) => done(calibrate::execute(&args).map(|()| ExitStatus::Fine)),
        Command::Merge(args) => ended(merge::execute(&args), |error| {
            matches!(error, MergeCommandError::Load(_) | MergeCommandError::Merge(_))
        }),
        Command::Export(args) => {
            let outcome = export::execute(&args).map(|()| ExitStatus::Fine);
            ended(outcome, |e| matches!(e, ExportError::Load(_) | ExportError::Histogram { .. }))
        }
        Command::Completions(args) => done(manual::completions(&args).map(|()| ExitStatus::Fine)),
        Command::Man(args) => done(manual::pages(&args).map(|()| ExitStatus::Fine)),
    }
}

/// Some errors are about what was typed.
fn ended<E: Into<Error>>(
    outcome: Result<ExitStatus, E>,
    is_usage: impl Fn(&E) -> bool,
) -> ExitCode {
    match outcome {
        Err(error) if is_usage(&error) => complain(&error.into(), USAGE),
        other => done(other),
    }
}

fn done(ended: Result<ExitStatus, impl Into<Error>>) -> ExitCode {
    match ended {
        Ok(status) => status.into(),
        Err(error) => complain(&error.into(), ExitStatus::Failed as u8),
    }
}

/// This program as the embedded server.
fn serve(args: impl Iterator<Item = OsString>) -> ExitCode {
    let bound: Result<()> = server::die_with_parent().map_err(Into::into);
    if let Err(error) = bound {
        return complain(&error, ExitStatus::Failed as u8);
    }
    uring_echo::cli::main(["uring-echo", "serve"].map(OsString::from).into_iter().chain(args))
}

fn complain(error: &Error, status: u8) -> ExitCode {
    eprintln!("loadgen: {error:#}");
    status.into()
}

const USAGE: u8 = 2;
