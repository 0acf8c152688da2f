//! loadgen: how long did connections wait to be accepted?

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Error, Result};
use clap::Parser;
use loadgen::cli::{Cli, Command, RunArgs};
use loadgen::commands::{hold, run, torture};
use loadgen::plan::config::RunConfig;
use loadgen::server;

fn main() -> ExitCode {
    let mut args = env::args_os();
    match args.nth(1) {
        Some(first) if first == server::SERVE => return serve(args),
        Some(first) if first == hold::HOLD => return done(hold::holder(args).map(|()| true)),
        _ => {}
    }
    match Cli::parse().command {
        Command::Run(args) => measure(*args),
        Command::Torture(args) => done(torture::execute(&args)),
        Command::Hold(args) => done(hold::execute(&args)),
    }
}

fn measure(args: RunArgs) -> ExitCode {
    let config = match RunConfig::resolve(args) {
        Ok(config) => config,
        Err(error) => return complain(&error.into(), USAGE),
    };
    let argv = env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match run::run(config, argv) {
        Ok(status) => status.into(),
        Err(error) => complain(&error.into(), FAILURE),
    }
}

/// What was found, good or bad, as an exit status.
fn done(found: Result<bool, impl Into<Error>>) -> ExitCode {
    match found {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILURE.into(),
        Err(error) => complain(&error.into(), FAILURE),
    }
}

/// This program as the embedded server.
fn serve(args: impl Iterator<Item = OsString>) -> ExitCode {
    let bound: Result<()> = server::die_with_parent().map_err(Into::into);
    if let Err(error) = bound {
        return complain(&error, FAILURE);
    }
    uring_echo::cli::main(["uring-echo", "serve"].map(OsString::from).into_iter().chain(args))
}

fn complain(error: &Error, status: u8) -> ExitCode {
    eprintln!("loadgen: {error:#}");
    status.into()
}

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
