//! The command line: what can be typed, a file per subcommand, and how each one ends.

mod doctor;
mod environment;
mod log;
mod manual;
mod ping;
mod report;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::log::LogFormat;
pub use self::serve::ServeArgs;
use crate::log::FLUSH_TIMEOUT;
use crate::sandbox;

/// A TCP echo server (RFC 862) on Linux io_uring.
#[derive(Debug, Parser)]
#[command(name = "uring-echo", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM or SIGINT; twice to stop at once).
    Serve(Box<ServeArgs>),
    /// Send one message to an echo server and wait for its echo: exit 0 if it came back.
    Ping(ping::PingArgs),
    /// Examine what this machine offers a server: exit 0 if it would run with these flags.
    Doctor(Box<doctor::DoctorArgs>),
    /// Print a script that completes commands and flags in a shell.
    Completions(manual::CompletionsArgs),
    /// Write manual pages into a folder.
    Man(manual::ManArgs),
}

/// The whole program: parses `args` (the program's name first), runs, maps to an exit code.
/// 0 is fine, 1 a runtime error, 2 a usage error.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Some(tried) = sandbox::try_for_parent() {
        return tried;
    }
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = Cli::try_parse_from(&args)
        .unwrap_or_else(|error| environment::explained(error, &Cli::command(), &args).exit());
    let format = match &parsed.command {
        Command::Serve(args) => args.log_format(),
        _ => LogFormat::Text,
    };
    let outcome = match parsed.command {
        Command::Serve(serve_args) => serve::run(&serve_args, &after_the_command(&args)),
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
            report::fatal(&environment::traced(error, &Cli::command(), &args), format);
            ExitCode::FAILURE
        }
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
