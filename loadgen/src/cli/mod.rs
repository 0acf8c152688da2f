//! What was typed on the command line, and nothing that needs a system call: a file per command.

pub mod compare;
pub mod export;
pub mod hold;
pub mod merge;
pub mod report;
pub mod run;
pub mod target;
pub mod torture;
pub mod trace;
pub mod values;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use compare::CompareArgs;
use export::ExportArgs;
use hold::HoldArgs;
use merge::MergeArgs;
use report::ReportArgs;
use run::RunArgs;
use torture::TortureArgs;
use trace::TraceArgs;

/// The program: one measurement per call.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    about = "Measures how long TCP connections wait between connect() and the server's accept()",
    long_about = "Measures how long TCP connections wait between connect() and the server's \
accept().\n\nconnect() returning does not mean that the server accepted: the kernel finishes the \
handshake alone and parks the connection in the accept queue. loadgen measures that wait, for the \
uring-echo server exactly and for any other server on this host by watching the kernel.",
    styles = STYLES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
