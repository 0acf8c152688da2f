//! `loadgen hold`: idle connections, each echoed once, and what one of them costs.
//!
//! What it takes is chosen by [`choice`], opened and held by the rings of
//! [`crate::generate::holding`], or where there are none by this program started several times
//! ([`HOLD`]).

mod choice;
mod holders;
mod memory_usage;
mod private_network;
mod probe;
mod processes;

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use uring_echo::sys::descriptors;

pub use processes::{HOLD, holder};

use self::choice::Choice;
use self::holders::Holders;
use self::probe::{Probes, Probing};
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use super::target::{self, TargetError};
use crate::cli::hold::{EndArg, HoldArgs};
use crate::echo_client::{EchoError, EchoServer, pattern};
use crate::evidence::CpuMeter;
use crate::generate::GenerateError;
use crate::generate::holding::{EndedEarly, HoldingError, Opened};
use crate::model::hold::{BytesPerConnection, Hold, MemoryUsage, OpeningCpu, PrivateNetwork};
use crate::model::load::Load;
use crate::model::result::{Kind, RunResult};
use crate::plan::holding::{self, NoRoom};
use crate::plan::sources::{Sources, UnusableSource};
use crate::render::findings;
use crate::render::output::OutputError;
use crate::server::{EmbeddedError, EmbeddedServer};
use crate::sys::private_network::NoPrivateNetwork;
use crate::sys::processes::{ServerProcess, open_connections};
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// Why connections could not be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// There is no network namespace for it.
    #[error(transparent)]
    PrivateNetwork(#[from] NoPrivateNetwork),
    /// What was typed is not in that namespace.
    #[error(
        "--private-network: {what} is outside of the network namespace that this makes, from which \
         nothing else can be reached: leave it out, so that all is on the loopback inside with the \
         embedded server, or leave --private-network out"
    )]
    Outside {
        /// It.
        what: String,
    },
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
    /// What the machine has left could not be read.
    #[error("reading what this machine has left: {0}")]
    Room(io::Error),
    /// The machine cannot hold them.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Rings were asked for by name.
    #[error("--holders rings: {0}; use --holders processes")]
    NoRings(String),
    /// The server cannot be stopped first.
    #[error("--end server needs --holders rings: only their connections are counted before it")]
    EndByServer,
    /// The rings do not work.
    #[error(transparent)]
    Holding(#[from] HoldingError),
    /// The embedded server has fewer tables than it takes.
    #[error(
        "the embedded server could start {got} of the {needed} workers whose tables it takes: \
         {reason}"
    )]
    Workers {
        /// Workers that it has.
        got: u64,
        /// Workers that it takes.
        needed: u32,
        /// Why.
        reason: String,
    },
    /// The clock's domain cannot be read.
    #[error("reading the clock's domain: {0}")]
    Clock(io::Error),
    /// Probes could not be made.
    #[error("probing: {0}")]
    Probes(GenerateError),
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
        match self {
            Self::Address(error) => error.is_usage(),
            other => matches!(other, Self::Outside { .. }),
        }
    }
}

/// Holds connections as typed and prints what came of it.
///
/// # Errors
/// [`HoldError`].
pub fn execute(args: &HoldArgs) -> Result<ExitStatus, HoldError> {
    let network = private_network::enter(args)?;
    let find = |addr: &str| target::find(addr, &args.source, args.target);
    let given = args.addr.as_deref().map(find).transpose()?;
    Sources::expand(&args.source).check()?;
    let destination = Destination::open(None, args.json.as_deref())?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    descriptors::raise_limit().map_err(HoldError::Room)?;
    let choice = Choice::make(args, given)?;
    let embedded = match given {
        Some(_) => None,
        None => Some(choice.start_server(args)?),
    };
    let addr = embedded.as_ref().map(EmbeddedServer::addr).or(given).expect("one of the two");
    let sources = choice.sources(&args.source, addr)?;
    let mut result = envelope(Kind::Hold, SystemTime::now());
    result.target.addr = addr.to_string();
    result.server = embedded.as_ref().map(|s| s.description().clone()).unwrap_or_default();
    result.load = Some(load(args, &sources));
    let pid = embedded.as_ref().map(EmbeddedServer::pid);
    let server = ServerProcess::find(addr, pid).map_err(HoldError::Memory)?;
    let scene = Scene { args, network, choice, addr, sources, server, stop };
    let embedded = scene.play(embedded, &mut result)?;
    deliver(result, embedded, destination)
}

/// The report first; what fails from here on is told after it.
fn deliver(
    mut result: RunResult,
    embedded: Option<EmbeddedServer>,
    destination: Destination,
) -> Result<ExitStatus, HoldError> {
    let printed = destination.print_report(&result);
    let stopped = embedded.and_then(|server| server.stop_within(STOP_WITHIN));
    result.problems.extend(stopped);
    let finished = destination.finish(&mut result);
    printed.and(finished)?;
    let all = result.hold.as_ref().is_some_and(|hold| hold.echoed == hold.wanted && hold.lost == 0);
    let status = ExitStatus::of(&result);
    Ok(if status == ExitStatus::Fine && !all { ExitStatus::Failed } else { status })
}

/// Everything that is decided before the first connection.
struct Scene<'a> {
    args: &'a HoldArgs,
    network: Option<PrivateNetwork>,
    choice: Choice,
    addr: SocketAddr,
    sources: Vec<IpNet>,
    server: Option<ServerProcess>,
    stop: StopFlag,
}

/// What came of opening.
struct Opening {
    opened: Opened,
    took: Duration,
    cpu: OpeningCpu,
    before: MemoryUsage,
    after: MemoryUsage,
}

/// What came of the end.
#[derive(Default)]
struct Ending {
    lost: u32,
    closing: Option<Duration>,
    server_stop: Option<Duration>,
}

impl Scene<'_> {
    /// Opens, holds and ends; returns the server, unless it was stopped.
    fn play(
        &self,
        mut embedded: Option<EmbeddedServer>,
        result: &mut RunResult,
    ) -> Result<Option<EmbeddedServer>, HoldError> {
        let connections = self.args.connections;
        warm_up(self.addr, connections, &self.stop).map_err(HoldError::WarmUp)?;
        let (mut holders, opening) = self.open()?;
        let looks = self.server.filter(|_| connections <= TABLE_READ_MOST);
        let seen = looks.map(|_| open_connections(self.addr.port())).transpose();
        let seen_by_kernel = seen.map_err(HoldError::Memory)?;
        let held = Instant::now();
        let probes = self.hold(embedded.is_some())?;
        let held = held.elapsed();
        let (processes, threads) = holders.count();
        let lost = holders.count_lost()?;
        let stopped_first = embedded.take_if(|_| self.args.end == EndArg::Server);
        let mut ending = end(holders, stopped_first, &mut result.problems)?;
        ending.lost += lost.unwrap_or(0);
        let Opening { opened, took, cpu, before, after } = opening;
        let seconds = |time: Duration| time.as_secs_f64();
        result.hold = Some(Hold {
            wanted: connections,
            opened: opened.opened,
            echoed: opened.echoed,
            lost: ending.lost,
            processes,
            rings: self.choice.rings(),
            threads,
            private_network: self.network.clone(),
            opening_s: took.as_secs_f64(),
            opening_cpu: Some(cpu),
            held_s: held.as_secs_f64(),
            closing_s: ending.closing.map(seconds),
            server_stop_s: ending.server_stop.map(seconds),
            first_error: opened.first_error,
            ended_early: opened.ended_early.map(EndedEarly::text).map(str::to_owned),
            seen_by_kernel,
            server_pid: self.server.map(|server| server.pid),
            before,
            after,
            bytes_per_connection: BytesPerConnection::of(&before, &after, opened.echoed),
            probes_failed: probes.as_ref().map_or(0, |probes| probes.failed),
        });
        summarise(result, probes, &self.stop);
        Ok(embedded)
    }

    fn open(&self) -> Result<(Holders, Opening), HoldError> {
        let server = self.server.as_ref();
        let before = memory_usage::take(server).map_err(HoldError::Memory)?;
        let meter = |pid: u32| CpuMeter::start(vec![pid]).map_err(HoldError::Memory);
        let mut of_server = server.map(|server| meter(server.pid)).transpose()?;
        let mut of_holders = match &self.choice.holders {
            holding::Holders::Rings(..) => Some(meter(std::process::id())?),
            holding::Holders::Processes(_) => None,
        };
        let start = Instant::now();
        let connections = self.args.connections;
        let shared_out = &self.choice.holders;
        let mut holders =
            Holders::start(shared_out, connections, self.addr, &self.sources, &self.stop)?;
        let opened = holders.opened(&self.stop)?;
        let took = start.elapsed();
        let cpu = OpeningCpu { holders_s: used(&mut of_holders), server_s: used(&mut of_server) };
        let after = memory_usage::take(server).map_err(HoldError::Memory)?;
        Ok((holders, Opening { opened, took, cpu, before, after }))
    }

    fn hold(&self, embedded: bool) -> Result<Option<Probes>, HoldError> {
        let Some(rate) = self.args.probe_rate else {
            probe::wait(self.args.duration, &self.stop);
            return Ok(None);
        };
        let sources = self.sources.clone();
        let probing = Probing { addr: self.addr, sources, rate, stamps: embedded };
        probing.run(self.args.duration, &self.stop).map(Some)
    }
}

/// CPU seconds since the meter's start; `None` without a meter or once its process is gone.
fn used(meter: &mut Option<CpuMeter>) -> Option<f64> {
    let meter = meter.as_mut()?;
    meter.sample().ok()?;
    Some(Duration::from_nanos(meter.total(1).cpu_ns).as_secs_f64())
}

/// The server first if it is given, then the clients.
fn end(
    holders: Holders,
    stopped_first: Option<EmbeddedServer>,
    problems: &mut Vec<String>,
) -> Result<Ending, HoldError> {
    let mut ending = Ending::default();
    let start = Instant::now();
    if let Some(server) = stopped_first {
        problems.extend(server.stop_within(STOP_WITHIN));
        ending.server_stop = Some(start.elapsed());
        ending.lost = holders.end()?;
        return Ok(ending);
    }
    ending.lost = holders.end()?;
    ending.closing = Some(start.elapsed());
    Ok(ending)
}

/// What the envelope has of every command: outcomes, histograms, verdict.
fn summarise(result: &mut RunResult, probes: Option<Probes>, stop: &StopFlag) {
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
    result.histograms.extend(probes.into_iter().flat_map(|probes| probes.histograms));
}

fn load(args: &HoldArgs, sources: &[IpNet]) -> Load {
    Load {
        shape: "hold".into(),
        rate: args.probe_rate,
        connections: Some(args.connections.into()),
        duration_ns: Some(nanos(args.duration)),
        sources: sources.iter().map(ToString::to_string).collect(),
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

/// How long the server may take to close what is open.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Connections up to which the kernel's socket table is read: it is text, a line for each end.
const TABLE_READ_MOST: u32 = 100_000;
const WARM_UP_MOST: u32 = 96;
const WARM_UP_FEWEST: u32 = 8;
const HELD_PER_WARM_UP: u32 = 100;
/// In each: together a multiple of the pools of a server with several workers.
const WARM_UP_BYTES: usize = 8 << 20;
/// Time for each: all of them together take long on a busy machine, and the server still answers.
const WARM_UP_EACH_WITHIN: Duration = Duration::from_secs(30);
