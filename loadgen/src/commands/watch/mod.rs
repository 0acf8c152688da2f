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
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uring_echo::http::HttpError;
use uring_echo::values::{ValueError, target_addrs};

use self::audience::Audience;
use self::exporter::Exporter;
use self::ticker::Place;
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use crate::analyse;
use crate::cli::watch::{ModeChoice, WatchArgs};
use crate::model::load::Observe;
use crate::model::outcome::Phase;
use crate::model::result::{Kind, RunResult, Times};
use crate::observe::{ListenerTable, ProcListeners, TraceError, covering};
use crate::render::output::OutputError;
use crate::render::progress::say;
use crate::render::{findings, watch_findings};
use crate::sys::namespaces::{NamespaceError, Network, enter_network, network_of};
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
    /// Nor does /proc show them.
    #[error("reading the socket table in /proc: {0}")]
    Shown(io::Error),
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
    let Some(addr) = args.addr.as_deref().filter(|_| !args.list) else {
        named_network(args).as_deref().map(enter_network).transpose()?;
        list::print(args.json.as_deref())?;
        return Ok(ExitStatus::Fine);
    };
    let candidates = target_addrs(addr)?;
    let destination = Destination::open(args.out.as_deref(), args.json.as_deref())?;
    let scraped = args.export.map(exporter::bind).transpose()?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    let mut result = envelope(Kind::Watch, SystemTime::now());
    let place = place(args)?;
    let server = listening(addr, &candidates, &place)?;
    result.target.addr = server.to_string();
    result.target.observe = Observe::Diag;
    let exporter = scraped.map(|listener| Exporter::start(listener, server)).transpose()?;
    let mut audience = Audience::new(server.to_string(), exporter);
    let watched = watch(args, (server, place), &stop, &mut audience, &mut result);
    // Gives the terminal back, to which the report and the cause of a failure are printed.
    drop(audience);
    watched?;
    let printed = destination.print_report(&result);
    let finished = destination.finish(&mut result);
    printed.and(finished)?;
    Ok(ExitStatus::of(&result))
}

fn named_network(args: &WatchArgs) -> Option<PathBuf> {
    args.netns.clone().or_else(|| args.pid.map(network_of))
}

/// Enters the network namespace that is meant. Where that is denied, or where the sockets cannot be
/// asked for, `/proc` still shows queues, to the modes that can do with that.
fn place(args: &WatchArgs) -> Result<Place, WatchError> {
    let path = named_network(args);
    let network = path.as_deref().map(Network::named);
    let shown = !matches!(args.mode, ModeChoice::Trace | ModeChoice::Sampled);
    match (path.as_deref().map(enter_network).transpose(), args.pid) {
        (Err(denied), Some(pid)) if denied.is_denied() && shown => {
            say(&format!("{denied}\nwatching what /proc/{pid}/net shows, ten times a second"));
            return Ok(Place { network, shown_in: Some(format!("/proc/{pid}/net").into()) });
        }
        (entered, _) => entered?,
    };
    let denied = ListenerTable::open().err().filter(|_| shown);
    let shown_in = denied.map(|error| {
        say(&format!("sock_diag: {error}: watching what /proc/net shows, ten times a second"));
        "/proc/thread-self/net".into()
    });
    Ok(Place { network, shown_in })
}

/// The first of the addresses that somebody listens at.
fn listening(
    typed: &str,
    candidates: &[SocketAddr],
    place: &Place,
) -> Result<SocketAddr, WatchError> {
    let nobody = || WatchError::NobodyListens { addr: typed.to_owned() };
    if let Some(folder) = &place.shown_in {
        let there = |addr: &&SocketAddr| ProcListeners::open(folder, **addr).is_ok();
        return candidates.iter().find(there).copied().ok_or_else(nobody);
    }
    let mut table = ListenerTable::open().map_err(WatchError::SocketTable)?;
    let all = table.all().map_err(WatchError::SocketTable)?;
    let found = candidates.iter().find(|addr| !covering(&all, **addr).is_empty());
    found.copied().ok_or_else(nobody)
}

fn watch(
    args: &WatchArgs,
    (server, place): (SocketAddr, Place),
    stop: &StopFlag,
    audience: &mut Audience,
    result: &mut RunResult,
) -> Result<(), WatchError> {
    let began = unix_ns(SystemTime::now());
    let watched = ticker::watch(server, place, args, stop, audience)?;
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
    let noticed = analyse::watch::advice(&watch);
    let worded = noticed.iter().map(|one| watch_findings::advice(one, &watch));
    result.verdict.advice = worded.collect();
    result.watch = Some(watch);
    Ok(())
}

/// Whether stdout carries JSON and nothing else.
fn json_alone(json: Option<&Path>) -> bool {
    json.is_some_and(|path| path.as_os_str() == "-")
}
