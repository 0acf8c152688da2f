//! The command line: what can be typed, a file per subcommand, and how each one ends.

mod background;
mod doctor;
pub mod environment;
mod log;
mod manual;
mod ping;
mod report;
mod serve;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Error, FromArgMatches, Parser, Subcommand};

use self::log::LogFormat;
pub use self::serve::ServeArgs;
use self::serve::{Invalid, ServeCommand};
use self::settings::{Parsed, Setting};
use crate::log::FLUSH_TIMEOUT;
use crate::sandbox;
use crate::version::VERSION;

/// A TCP echo server (RFC 862) on Linux io_uring.
#[derive(Debug, Parser)]
#[command(name = "uring-echo", version = VERSION, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM or SIGINT; twice to stop at once).
    Serve(Box<ServeCommand>),
    /// Send one message to an echo server and wait for its echo: exit 0 if it came back, 3 if the
    /// server listens and did not serve (full), 1 if nobody listens.
    Ping(ping::PingArgs),
    /// Examine what this machine offers a server: exit 0 if it would run with these flags.
    Doctor(Box<doctor::DoctorArgs>),
    /// Print a script that completes commands and flags in a shell.
    Completions(manual::CompletionsArgs),
    /// Write manual pages into a folder.
    Man(manual::ManArgs),
}

/// The exit status of a ping whose server listens and did not serve.
const FULL: u8 = 3;

/// The exit status of a wrong usage, and of a configuration that was checked and is wrong.
const USAGE: u8 = 2;

/// The whole program: parses `args` (the program's name first), runs, maps to an exit code.
/// 0 is fine, 1 a runtime error, 2 a usage error, 3 a ping of a server that listens and is full.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Some(tried) = sandbox::try_for_parent() {
        return tried;
    }
    let args: Vec<OsString> = args.into_iter().collect();
    let (cli, settings) = parse(&args)
        .unwrap_or_else(|error| environment::explained(error, &Cli::command(), &args).exit());
    let format = match &cli.command {
        Command::Serve(command) => command.log_format(),
        _ => LogFormat::Text,
    };
    let outcome = match cli.command {
        Command::Serve(command) => serve::run(&command, &settings, &after_the_command(&args)),
        Command::Ping(args) => ping::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::pages(&args),
    };
    match outcome {
        Ok(()) => {
            crate::log::flush(FLUSH_TIMEOUT);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = exit_code(&error);
            report::fatal(&environment::traced(error, &Cli::command(), &args), format);
            code
        }
    }
}

fn parse(args: &[OsString]) -> Result<(Cli, Vec<Setting>), Error> {
    let Parsed { matches, settings } = settings::parse(&Cli::command(), args)?;
    Ok((Cli::from_arg_matches(&matches)?, settings))
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    match () {
        () if error.is::<ping::Full>() => ExitCode::from(FULL),
        () if error.is::<Invalid>() => ExitCode::from(USAGE),
        () => ExitCode::FAILURE,
    }
}

/// What was typed after the program's name and the command's.
fn after_the_command(args: &[OsString]) -> Vec<String> {
    args.iter().skip(2).map(|arg| arg.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
