//! `loadgen watch`: how long the clients of a listener wait, from samples of its accept queue.
//! Nothing connects to it.

mod audience;
mod conclusion;
mod exporter;
mod follower;
mod kernel;
mod list;
mod neighbours;
mod port_filter;
mod recorder;
mod sampled;
mod telling;
mod ticker;
mod traced;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use uring_echo::http::HttpError;
use uring_echo::values::{ValueError, target_addrs};

use self::audience::Audience;
use self::exporter::Exporter;
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use crate::cli::watch::WatchArgs;
use crate::model::load::Observe;
use crate::model::outcome::Phase;
use crate::model::result::{Kind, RunResult, Times};
use crate::observe::{ListenerTable, TraceError, covering};
use crate::render::output::OutputError;
use crate::render::{findings, watch_findings};
use crate::sys::namespaces::{NamespaceError, enter_network, network_of};
use crate::sys::signals::StopFlag;
use crate::sys::time::unix_ns;

/// Why nothing was watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The address has no meaning. A usage error.
    #[error(transparent)]
    Address(#[from] ValueError),
    /// The network namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No socket listens there.
    #[error(
        "nobody listens at {addr} in this network namespace: `loadgen watch --list` shows who \
         does; for a container, name a process of it with --pid"
    )]
    NobodyListens {
        /// The address as typed.
        addr: String,
    },
    /// The kernel does not show its sockets.
    #[error("reading the kernel's socket table: {0}: it takes CONFIG_INET_DIAG and no sandbox")]
    SocketTable(io::Error),
    /// The kernel's counters cannot be read.
    #[error("reading /proc/net/snmp: {0}")]
    Counters(io::Error),
    /// Mode trace was asked for, and is not permitted.
    #[error("{0}. --mode auto watches without it")]
    Trace(#[from] TraceError),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The address of `--export` is not to be had.
    #[error(
        "--export: listening on {addr}: {source}; is another watch exporting there? Port 0 takes \
         a free one"
    )]
    Export {
        /// As typed.
        addr: SocketAddr,
        /// What bind(2) or listen(2) said.
        source: io::Error,
    },
    /// The endpoint of `--export` cannot be run.
    #[error("--export: {0}")]
    Endpoint(#[from] HttpError),
    /// Signals cannot be caught, or stdout refused the text.
    #[error("installing signal handlers or writing to stdout")]
    Io(#[from] io::Error),
}

impl WatchError {
    /// Whether it is about what was typed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address(_))
    }
}

/// Watches as typed and prints what came of it.
///
/// # Errors
/// [`WatchError`].
pub fn execute(args: &WatchArgs) -> Result<ExitStatus, WatchError> {
    let netns = args.netns.clone().or_else(|| args.pid.map(network_of));
    let Some(addr) = args.addr.as_deref().filter(|_| !args.list) else {
        netns.as_deref().map(enter_network).transpose()?;
        list::print(args.json.as_deref())?;
        return Ok(ExitStatus::Fine);
    };
    let candidates = target_addrs(addr)?;
    let destination = Destination::open(args.out.as_deref(), args.json.as_deref())?;
    let scraped = args.export.map(exporter::bind).transpose()?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    let mut result = envelope(Kind::Watch, SystemTime::now());
    netns.as_deref().map(enter_network).transpose()?;
    let server = listening(addr, &candidates)?;
    result.target.addr = server.to_string();
    result.target.observe = Observe::Diag;
    let exporter = scraped.map(|listener| Exporter::start(listener, server)).transpose()?;
    watch(args, server, &stop, &mut Audience::new(server.to_string(), exporter), &mut result)?;
    let printed = destination.print_report(&result);
    let finished = destination.finish(&mut result);
    printed.and(finished)?;
    Ok(ExitStatus::of(&result))
}

/// The first of the addresses that somebody listens at.
fn listening(typed: &str, candidates: &[SocketAddr]) -> Result<SocketAddr, WatchError> {
    let mut table = ListenerTable::open().map_err(WatchError::SocketTable)?;
    let all = table.all().map_err(WatchError::SocketTable)?;
    let found = candidates.iter().find(|addr| !covering(&all, **addr).is_empty());
    found.copied().ok_or_else(|| WatchError::NobodyListens { addr: typed.to_owned() })
}

fn watch(
    args: &WatchArgs,
    server: SocketAddr,
    stop: &StopFlag,
    audience: &mut Audience,
    result: &mut RunResult,
) -> Result<(), WatchError> {
    let began = unix_ns(SystemTime::now());
    let watched = ticker::watch(server, args, stop, audience)?;
    // By the monotonic clock: the time of day may have been set meanwhile.
    let ended = began + watched.length_ns;
    result.times = Some(Times {
        load_began: began,
        measured_from: began,
        measured_to: ended,
        load_ended: ended,
    });
    // Without a duration a signal is how it ends.
    result.interrupted = watched.stopped && args.duration.is_some();
    result.problems.extend(watched.problem.clone());
    let (watch, told) = conclusion::of(&watched, args.mode);
    result.histograms.insert(Phase::AcceptDelay.name().into(), told.summary);
    result.intervals = told.intervals;
    result.verdict = findings::only_interruption(result.interrupted);
    result.verdict.advice = watch_findings::advice(&watch);
    result.watch = Some(watch);
    Ok(())
}

/// Whether stdout carries JSON and nothing else.
fn json_alone(json: Option<&Path>) -> bool {
    json.is_some_and(|path| path.as_os_str() == "-")
}
