//! `loadgen hold`: idle connections, each echoed once, and the memory that one of them costs.
//!
//! A process may have fewer descriptors than the server holds connections, so this program starts
//! itself several times ([`HOLD`]) and gives each a share ([`holder`]).

mod holder;
mod memory_usage;
mod probe;

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub use holder::{HOLD, holder};

use self::holder::{Holders, Opened};
use self::probe::Probes;
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use super::target::{self, TargetError};
use crate::cli::hold::HoldArgs;
use crate::echo_client::{EchoError, EchoServer, pattern};
use crate::model::hold::{BytesPerConnection, Hold};
use crate::model::load::Load;
use crate::model::result::{Kind, RunResult};
use crate::plan::sources::{Sources, UnusableSource};
use crate::render::findings;
use crate::render::output::OutputError;
use crate::server::{EmbeddedError, EmbeddedServer};
use crate::sys::processes::{ServerProcess, open_connections};
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// Why connections could not be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] TargetError),
    /// A source address is not this machine's.
    #[error(transparent)]
    Source(#[from] UnusableSource),
    /// There is no embedded server.
    #[error(transparent)]
    Server(#[from] EmbeddedError),
    /// The server does not echo even before anything is held.
    #[error("warming up: {0}")]
    WarmUp(EchoError),
    /// A process that holds could not be started or talked to.
    #[error("a process that holds connections: {0}")]
    Holder(io::Error),
    /// Memory could not be read.
    #[error("reading memory use: {0}")]
    Memory(io::Error),
    /// This process has too few descriptors to do anything.
    #[error("RLIMIT_NOFILE is only {0}")]
    Descriptors(u64),
    /// The JSON cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Signals cannot be caught, or stdout refused the text.
    #[error("installing signal handlers or writing to stdout")]
    Io(#[from] io::Error),
}

impl HoldError {
    /// Whether what was typed is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address(error) if error.is_usage())
    }
}

/// Holds connections as typed and prints what came of it.
///
/// # Errors
/// [`HoldError`].
pub fn execute(args: &HoldArgs) -> Result<ExitStatus, HoldError> {
    let find = |addr: &str| target::find(addr, &args.source, args.target);
    let given = args.addr.as_deref().map(find).transpose()?;
    Sources::expand(&args.source).check()?;
    let destination = Destination::open(None, args.json.as_deref())?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    let server_args: Vec<_> = args.server_args.iter().map(Into::into).collect();
    let embedded = match given {
        Some(_) => None,
        None => Some(EmbeddedServer::start(&server_args, None, false)?),
    };
    let addr = embedded.as_ref().map(EmbeddedServer::addr).or(given).expect("one of the two");
    let pid = embedded.as_ref().map(EmbeddedServer::pid);
    let server = ServerProcess::find(addr, pid).map_err(HoldError::Memory)?;
    let mut result = envelope(Kind::Hold, SystemTime::now());
    result.target.addr = addr.to_string();
    result.server = embedded.as_ref().map(|s| s.description().clone()).unwrap_or_default();
    result.load = Some(load(args));
    hold(args, addr, server.as_ref(), &stop, &mut result)?;
    deliver(result, embedded, destination)
}

/// The report first; what fails from here on is told after it.
fn deliver(
    mut result: RunResult,
    embedded: Option<EmbeddedServer>,
    destination: Destination,
) -> Result<ExitStatus, HoldError> {
    let printed = destination.print_report(&result);
    result.problems.extend(embedded.and_then(EmbeddedServer::stop));
    let finished = destination.finish(&mut result);
    printed.and(finished)?;
    let all = result.hold.as_ref().is_some_and(|hold| hold.echoed == hold.wanted && hold.lost == 0);
    let status = ExitStatus::of(&result);
    Ok(if status == ExitStatus::Fine && !all { ExitStatus::Failed } else { status })
}

fn hold(
    args: &HoldArgs,
    addr: SocketAddr,
    server: Option<&ServerProcess>,
    stop: &StopFlag,
    result: &mut RunResult,
) -> Result<(), HoldError> {
    warm_up(addr, args.connections, stop).map_err(HoldError::WarmUp)?;
    let before = memory_usage::take(server).map_err(HoldError::Memory)?;
    let start = Instant::now();
    let mut holders = Holders::start(addr, args.connections, &args.source)?;
    let opened = holders.opened(stop).map_err(HoldError::Holder)?;
    let opening = start.elapsed();
    let seen = server.map(|_| open_connections(addr.port())).transpose();
    let seen_by_kernel = seen.map_err(HoldError::Memory)?;
    let after = memory_usage::take(server).map_err(HoldError::Memory)?;
    let held = Instant::now();
    let probes = probe::probe(addr, args.probe_rate, args.duration, stop);
    let held = held.elapsed();
    let processes = holders.count();
    let lost = holders.end().map_err(HoldError::Holder)?;
    let Opened { opened, echoed, first_error } = opened;
    result.hold = Some(Hold {
        wanted: args.connections,
        opened,
        echoed,
        lost,
        processes,
        opening_s: opening.as_secs_f64(),
        held_s: held.as_secs_f64(),
        first_error,
        seen_by_kernel,
        server_pid: server.map(|server| server.pid),
        before,
        after,
        bytes_per_connection: BytesPerConnection::of(&before, &after, echoed),
        probes_failed: probes.as_ref().map_or(0, |probes| probes.failed),
    });
    summarise(result, probes.as_ref(), stop);
    Ok(())
}

/// What the envelope has of every command: outcomes, histograms, verdict.
fn summarise(result: &mut RunResult, probes: Option<&Probes>, stop: &StopFlag) {
    result.interrupted = stop.is_set();
    result.verdict = findings::only_interruption(result.interrupted);
    if let Some(hold) = &result.hold {
        result.outcomes.attempted = hold.wanted.into();
        let completed = hold.echoed.saturating_sub(hold.lost);
        result.outcomes.ended = [
            ("completed".into(), completed.into()),
            ("lost".into(), hold.lost.into()),
            ("not_echoed".into(), hold.wanted.saturating_sub(hold.echoed).into()),
        ]
        .into();
    }
    result.histograms.extend(probes.map(|probes| ("probe".into(), probes.summary())));
}

fn load(args: &HoldArgs) -> Load {
    Load {
        shape: "hold".into(),
        rate: args.probe_rate,
        connections: Some(args.connections.into()),
        duration_ns: Some(nanos(args.duration)),
        sources: args.source.iter().map(ToString::to_string).collect(),
        messages: 1,
        ..Load::default()
    }
}

/// Few connections with much to echo: the server touches its pools, which are the same however many
/// connections there are, and hardly any of what it keeps per connection. A few connections that
/// are held touch little of a pool, so that less is enough for them.
fn warm_up(addr: SocketAddr, held: u32, stop: &StopFlag) -> Result<(), EchoError> {
    let bytes = pattern(61, WARM_UP_BYTES);
    let connections = (held / HELD_PER_WARM_UP).clamp(WARM_UP_FEWEST, WARM_UP_MOST);
    for _ in (0..connections).take_while(|_| !stop.is_set()) {
        let server = EchoServer::new(addr, Instant::now() + WARM_UP_EACH_WITHIN);
        let mut client = server.connect()?;
        client.stream_through(&bytes)?;
        client.expect_end()?;
    }
    // The server hears of the last end a moment later.
    thread::sleep(Duration::from_millis(200));
    Ok(())
}

const WARM_UP_MOST: u32 = 96;
const WARM_UP_FEWEST: u32 = 8;
const HELD_PER_WARM_UP: u32 = 100;
/// In each: together a multiple of the pools of a server with several workers.
const WARM_UP_BYTES: usize = 8 << 20;
/// Time for each: all of them together take long on a busy machine, and the server still answers.
const WARM_UP_EACH_WITHIN: Duration = Duration::from_secs(30);
