//! `loadgen trace`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::target::TargetArgs;
use super::values::parse_duration;

/// Arguments of `loadgen trace`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    /// Server to connect to, host:port; without it a small one in this process, whose calls are
    /// timed as well
    pub addr: Option<String>,

    /// How the address is understood.
    #[command(flatten)]
    pub target: TargetArgs,

    /// How long the server in this process does something else before it accepts
    /// [default: 200ms if the queue is full, else 0s]
    #[arg(long, value_name = "D", value_parser = parse_duration, conflicts_with = "addr")]
    pub hold: Option<Duration>,

    /// Length of its accept queue, as listen(2) is given it
    #[arg(long, value_name = "N", default_value_t = 128, conflicts_with = "addr")]
    pub backlog: u32,

    /// Connections that wait in the queue already: a number, or full
    /// [default: full with --backlog 0, else 0]
    #[arg(long, value_name = "N|full", conflicts_with = "addr")]
    pub queued: Option<Queued>,

    /// Write the picture as SVG to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How many connections wait before the traced one comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// This many.
    Count(u32),
    /// As many as the kernel lets in.
    Full,
}

impl FromStr for Queued {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            number => {
                number.parse().map(Self::Count).map_err(|e| format!("{e}: give a number, or full"))
            }
        }
    }
}

impl TraceArgs {
    /// What waits in the queue already.
    pub fn queued(&self) -> Queued {
        let by_default = if self.backlog == 0 { Queued::Full } else { Queued::Count(0) };
        self.queued.unwrap_or(by_default)
    }

    /// How long the server waits before it accepts.
    pub fn hold(&self) -> Duration {
        let by_default = match self.queued() {
            Queued::Full => Duration::from_millis(200),
            Queued::Count(_) => Duration::ZERO,
        };
        self.hold.unwrap_or(by_default)
    }
}

const TRACE_EXAMPLES: &str = "\
Examples:
  loadgen trace                         every call of one connection, with its time
  loadgen trace --hold 200ms            connect() returns long before accept()
  loadgen trace --backlog 0             a full queue: the SYN is dropped and sent again
  loadgen trace 127.0.0.1:8080          what can be seen of any server

Exit status: 0 the connection was made, 1 otherwise, 2 usage.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn typed(args: &[&str]) -> TraceArgs {
        match Cli::parse_from([&["loadgen", "trace"], args].concat()).command {
            Command::Trace(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_backlog_means_a_full_queue() {
        let full = typed(&["--backlog", "0"]);
        assert_eq!((full.queued(), full.hold()), (Queued::Full, Duration::from_millis(200)));
        let usual = typed(&[]);
        assert_eq!((usual.queued(), usual.hold()), (Queued::Count(0), Duration::ZERO));
        let given = typed(&["--backlog", "0", "--queued", "1", "--hold", "5ms"]);
        assert_eq!((given.queued(), given.hold()), (Queued::Count(1), Duration::from_millis(5)));
    }
}
