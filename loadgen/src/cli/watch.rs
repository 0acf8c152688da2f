//! `loadgen watch`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::parse_duration;

/// Arguments of `loadgen watch`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    /// Listening address of a server on this host, host:port; nothing connects to it
    #[arg(required_unless_present = "list")]
    pub addr: Option<String>,

    /// List every listener with its queue, the fullest first, and end
    #[arg(long, conflicts_with_all = ["addr", "duration", "mode", "out", "export"])]
    pub list: bool,

    /// Mean time between two samples of the queue; waits are told to within twice that
    #[arg(long, value_name = "D", value_parser = parse_interval, default_value = "2ms")]
    pub interval: Duration,

    /// How long to watch [default: until Ctrl-C]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// How waits are told
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub mode: ModeChoice,

    /// Watch in the network namespace of this process
    #[arg(long, value_name = "PID", conflicts_with = "netns")]
    pub pid: Option<u32>,

    /// Watch in this network namespace, such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write result.json, run.hlog, accept_delay.hgrm and report.html into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Answer scrapes at http://ADDR/metrics with OpenMetrics, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    pub export: Option<SocketAddr>,
}

/// How waits are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// The first of trace, fifo, sampled and depth that is permitted and true
    #[default]
    Auto,
    /// The instant of each arrival, from a tracepoint of the kernel: takes CAP_PERFMON or root
    Trace,
    /// The queue's depth, and the network namespace's count of connections
    Fifo,
    /// The queue's depth alone
    Depth,
    /// Dumps of the queue at random instants, beside other busy listeners
    Sampled,
}

/// The kernel's timers and a wake-up bound it below; above, a queue could fill and empty unseen.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_micros(200)..=Duration::from_secs(1);
    let message = || format!("{text:?}: expected a duration from 200us to 1s, such as 2ms");
    allowed.contains(&interval).then_some(interval).ok_or_else(message)
}

const WATCH_EXAMPLES: &str = "\
Examples:
  loadgen watch --list                          every listener, the fullest first
  loadgen watch 127.0.0.1:8080                  until Ctrl-C, a line a second
  loadgen watch [::]:443 --duration 1m --out w  with result.json, run.hlog and report.html
  loadgen watch [::]:80 --export 127.0.0.1:9464 for Prometheus, until it is stopped
  loadgen watch 0.0.0.0:80 --pid 4711           inside the namespace of a container's process

Nothing connects to the server and no privilege is needed in one's own network namespace.

Exit status: 0 fine, 1 runtime error or nobody listens, 2 usage, 4 what was seen is INVALID.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_bounds() {
        assert_eq!(parse_interval("1ms"), Ok(Duration::from_millis(1)));
        assert!(parse_interval("1us").unwrap_err().contains("200us"));
        assert!(parse_interval("2s").unwrap_err().contains("1s"));
    }
}
