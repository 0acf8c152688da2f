//! What was typed on the command line, and nothing that needs a system call: a file per command.

pub mod calibrate;
pub mod compare;
pub mod export;
pub mod find;
pub mod hold;
pub mod manual;
pub mod merge;
pub mod report;
pub mod run;
pub mod sweep;
pub mod target;
pub mod torture;
pub mod trace;
pub mod values;
pub mod watch;

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use uring_echo::cli::environment;
use uring_echo::version::VERSION;

use calibrate::CalibrateArgs;
use compare::CompareArgs;
use export::ExportArgs;
use find::FindArgs;
use hold::HoldArgs;
use manual::{CompletionsArgs, ManArgs};
use merge::MergeArgs;
use report::ReportArgs;
use run::RunArgs;
use sweep::SweepArgs;
use torture::TortureArgs;
use trace::TraceArgs;
use watch::WatchArgs;

/// The program: one measurement per call.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version = VERSION,
    about = "Measures how long TCP connections wait between connect() and the server's accept()",
    long_about = "Measures how long TCP connections wait between connect() and the server's \
accept().\n\nconnect() returning does not mean that the server accepted: the kernel finishes the \
handshake alone and parks the connection in the accept queue. loadgen measures that wait, for the \
uring-echo server exactly and for any other server on this host by watching the kernel.",
    after_long_help = MANUAL,
    styles = STYLES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Reads the command line and the environment; exits where they are wrong.
#[must_use]
pub fn parse() -> Cli {
    let args: Vec<OsString> = std::env::args_os().collect();
    let command = environment::without_empty(command());
    let parsed = command.clone().try_get_matches_from(&args);
    let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.unwrap_or_else(|error| environment::explained(error, &command, &args).exit())
}

/// The command line, each flag with its twin in the environment.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| subcommand.mut_args(with_variable))
    })
}

/// `--max-in-flight` is `LOADGEN_MAX_IN_FLIGHT`, the address to measure `LOADGEN_ADDR`. The help
/// tells the rule once instead of each.
fn with_variable(arg: Arg) -> Arg {
    let is_addr = arg.get_id() == "addr" && arg.is_positional();
    let Some(name) = arg.get_long().or_else(|| is_addr.then_some("addr")) else { return arg };
    let variable = format!("LOADGEN_{}", name.replace('-', "_").to_uppercase());
    let arg = arg.env(variable).hide_env(true);
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open connections as planned and report how long each waited to be accepted
    Run(Box<RunArgs>),
    /// Try what breaks echo servers on any of them and check every byte
    Torture(TortureArgs),
    /// Hold idle connections, each echoed once, and measure what one costs the server
    Hold(HoldArgs),
    /// Watch how long the clients of any local server wait, without connecting or root
    Watch(WatchArgs),
    /// Show one connection from both sides, call by call
    Trace(TraceArgs),
    /// Print the report of result files again, or overlay them in one page
    Report(ReportArgs),
    /// Add results up exactly: shards of a divided run, or rounds
    Merge(MergeArgs),
    /// Print a result as CSV, percentile table, HdrHistogram log, Prometheus text or Markdown
    Export(ExportArgs),
    /// Judge whether A and B differ, from rounds of both
    Compare(CompareArgs),
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsArgs),
    /// Write manual pages into a folder
    Man(ManArgs),
    /// Run a matrix of rates and flags in turns, for a table, a picture and compare
    Sweep(Box<SweepArgs>),
    /// Find the highest rate that holds objectives, and whose limit ends it
    Find(Box<FindArgs>),
    /// Measure what the instrument itself costs here, for later reports
    Calibrate(CalibrateArgs),
}

const MANUAL: &str = "\
Without ADDR a command starts the uring-echo server in a process of its own and measures that;
arguments after -- are the server's. FILES are results: a result.json, or a folder with one.

Questions and commands:
  How long do connections wait at 3,000 a second?     loadgen run --rate 3k
  ... at a server of mine, unmodified, without root?  loadgen run 127.0.0.1:8000 --observe diag
  ... when 2,000 come at one instant?                 loadgen run --burst 2k --every 1s
  ... when the server stalls?                         loadgen run -- --stall 100ms/2s
  How long do my clients wait right now?              loadgen watch 127.0.0.1:8000
  Which listener's queue is full?                     loadgen watch --list
  What does it look like?                             loadgen run --out results
  How do two runs compare by eye?                     loadgen report a b --html both.html
  Do two sets of rounds differ?                       loadgen compare before after
  What do rates and server flags change?              loadgen sweep --rates 1k,5k --out out
  How much does it take?                              loadgen find --slo 'accept_delay.p99<1ms'
  What does the instrument itself cost here?          loadgen calibrate
  What does one connection look like, call by call?   loadgen trace --svg trace.svg
  Does it hold my objective?                          loadgen run --slo 'accept_delay.p99<5ms'
  What do these shards or rounds say together?        loadgen merge shard-* --out all
  How do I get it into my tools?                      loadgen export results --format csv
  What does an idle connection cost?                  loadgen hold --connections 100k
  Does it echo correctly under abuse?                 loadgen torture 127.0.0.1:7777

A flag that is not typed has the value of its variable, where that is set: LOADGEN_RATE=3k for
--rate 3k, LOADGEN_MAX_IN_FLIGHT for --max-in-flight, LOADGEN_ADDR for ADDR; 1 or true for a flag
without a value.

Reports go to stdout, progress and errors to stderr; --json - prints JSON alone.
NO_COLOR and TERM=dumb are honoured.

Exit status:
  0    fine
  1    runtime error
  2    usage: what was typed, or a file that is no result
  3    an objective (--slo) was missed
  4    the run is INVALID: see its verdict
  130  interrupted; the report is partial and says so";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_twin_in_the_environment() {
        let mut count = 0;
        for subcommand in command().get_subcommands() {
            for arg in subcommand.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let variable = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                let flag = variable.strip_prefix("LOADGEN_").unwrap_or_default();
                assert_eq!(Some(flag.to_lowercase().replace('_', "-").as_str()), arg.get_long());
                count += 1;
            }
        }
        assert!(count > 40, "{count}");
    }
}
