//! `loadgen trace`: one connection, seen from both sides.

mod client;
mod kernel;
mod moments;
mod server;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Socket, Type};

use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use super::target::{self, TargetError};
use crate::cli::trace::{Queued, TraceArgs};
use crate::model::histogram::{Summary, new_histogram};
use crate::model::outcome::Phase;
use crate::model::result::{Kind, RunResult};
use crate::model::trace::{Event, Side, Trace};
use crate::model::verdict::Verdict;
use crate::observe::ListenerQueue;
use crate::render::output::{Output, OutputError};
use crate::render::sequence;
use client::Client;
use kernel::Watcher;
use moments::{Moment, steps};
use server::Listening;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] TargetError),
    /// The server in this process does not listen.
    #[error("listening on 127.0.0.1: {0}")]
    Listen(io::Error),
    /// The accept queue could not be filled.
    #[error("putting {wanted} connections into the accept queue: {got} were there after a second")]
    Fill {
        /// Connections wanted.
        wanted: u32,
        /// Connections seen.
        got: u32,
    },
    /// The connection was not made.
    #[error("connecting to {addr}: {cause}")]
    Connect {
        /// The server.
        addr: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The connection broke after it was made.
    #[error("the connection to {addr} broke: {cause}")]
    Broken {
        /// The server.
        addr: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The kernel does not show its queues.
    #[error("looking at the connection (sock_diag(7)): {0}")]
    Look(io::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

impl TraceError {
    /// Whether what was typed is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Address(error) if error.is_usage())
    }
}

/// Makes one connection as typed and prints what happened when.
///
/// # Errors
/// [`TraceError`].
pub fn execute(args: &TraceArgs) -> Result<ExitStatus, TraceError> {
    let find = |addr: &str| target::find(addr, &[], args.target);
    let given = args.addr.as_deref().map(find).transpose()?;
    let destination = Destination::open(None, args.json.as_deref())?;
    let svg = args.svg.as_deref().map(Output::open).transpose()?;
    let mut result = envelope(Kind::Trace, SystemTime::now());
    let (addr, trace) = match given {
        Some(addr) => (addr, foreign_server(addr)?),
        None => own_server(args)?,
    };
    result.target.addr = addr.to_string();
    summarise(&mut result, &trace);
    result.trace = Some(trace);
    let printed = destination.print_report(&result);
    if let Some(svg) = svg {
        let written = svg.write(&sequence::svg(&result));
        result.problems.extend(written.err().map(|error| error.to_string()));
    }
    let finished = destination.finish(&mut result);
    printed.and(finished)?;
    Ok(ExitStatus::of(&result))
}

/// Both sides are ours: every call is timed.
fn own_server(args: &TraceArgs) -> Result<(SocketAddr, Trace), TraceError> {
    let listening = Listening::start(args.backlog).map_err(TraceError::Listen)?;
    let addr = listening.addr;
    let limit = queue(addr)?.map(|(limit, _)| limit);
    // The kernel's test is "more than the limit", so one more than it fits.
    let full = limit.unwrap_or(args.backlog).saturating_add(1);
    let wanted = match args.queued() {
        Queued::Full => full,
        Queued::Count(count) => count.min(full),
    };
    let others = fill(addr, wanted)?;
    let client = Client::start(addr).map_err(|cause| TraceError::Connect { addr, cause })?;
    let serving = listening.serve(client.addr, args.hold()).map_err(TraceError::Listen)?;
    let watcher = Watcher::start(addr, client.addr).map_err(TraceError::Look)?;
    serving.client_connects();
    let mut moments = converse(client, addr, &watcher)?;
    let queued = Moment::at(Side::Kernel, Event::Queued, others.filled_ns).count(wanted.into());
    moments.extend((wanted > 0).then_some(queued));
    let served = serving.join();
    moments.extend(served.map_err(|cause| TraceError::Broken { addr, cause })?);
    let seen = watcher.finish().map_err(TraceError::Look)?;
    merge(&mut moments, seen.moments);
    let trace = Trace {
        backlog: Some(args.backlog),
        queue_limit: limit,
        queued_before: wanted,
        hold_ns: u64::try_from(args.hold().as_nanos()).unwrap_or(u64::MAX),
        look_gap_ns: seen.gap_ns,
        steps: steps(&moments),
    };
    Ok((addr, trace))
}

/// The server's calls are its own; when it accepts can be seen, or its stamp tells.
fn foreign_server(addr: SocketAddr) -> Result<Trace, TraceError> {
    let visible = queue(addr)?;
    let client = Client::start(addr).map_err(|cause| TraceError::Connect { addr, cause })?;
    let watcher = Watcher::start(addr, client.addr).map_err(TraceError::Look)?;
    let mut moments = converse(client, addr, &watcher)?;
    let seen = watcher.finish().map_err(TraceError::Look)?;
    merge(&mut moments, seen.moments);
    Ok(Trace {
        backlog: None,
        queue_limit: visible.map(|(limit, _)| limit),
        queued_before: visible.map_or(0, |(_, queued)| queued),
        hold_ns: 0,
        look_gap_ns: visible.and(seen.gap_ns),
        steps: steps(&moments),
    })
}

fn converse(
    client: Client,
    addr: SocketAddr,
    watcher: &Watcher,
) -> Result<Vec<Moment>, TraceError> {
    let broken = |cause| TraceError::Broken { addr, cause };
    let connected = client.connect(addr);
    let mut connected = connected.map_err(|cause| TraceError::Connect { addr, cause })?;
    connected.exchange().map_err(broken)?;
    watcher.wait_for_accept();
    Ok(connected.close())
}

/// What a side says of itself is exact; a look only adds what nobody told. It comes after what it
/// shows, but a SYN is not sent again once connect has returned, and what the server sends it sends
/// after its accept.
fn merge(moments: &mut Vec<Moment>, seen: Vec<Moment>) {
    let again = Event::SynRetransmitted;
    if seen.iter().any(|moment| moment.event == again) {
        // The client only knows how many there were.
        moments.retain(|moment| moment.event != again);
    }
    let told: Vec<Event> = moments.iter().map(|moment| moment.event).collect();
    let at = |event: Event| {
        let told = moments.iter().find(|moment| moment.event == event);
        told.map_or(u64::MAX, |moment| moment.at_ns)
    };
    let (established_ns, first_byte_ns) = (at(Event::Established), at(Event::FirstByte));
    let seen = seen.into_iter().filter(|moment| !told.contains(&moment.event));
    let in_time = |moment: Moment| match moment.event {
        Event::SynRetransmitted => moment.not_after(established_ns),
        Event::Accepted => moment.not_after(first_byte_ns),
        _ => moment,
    };
    // In front: steps of one instant stay in this order.
    moments.splice(0..0, seen.map(in_time));
}

/// Effective limit and length of the accept queue, if it is visible.
fn queue(addr: SocketAddr) -> Result<Option<(u32, u32)>, TraceError> {
    let sample = ListenerQueue::open(addr).and_then(|mut queue| queue.sample());
    Ok(sample.map_err(TraceError::Look)?.map(|depth| (depth.limit, depth.queued_max)))
}

/// Connections that are kept open.
struct Others {
    _streams: Vec<TcpStream>,
    filled_ns: u64,
}

/// Puts `wanted` connections into the accept queue.
fn fill(addr: SocketAddr, wanted: u32) -> Result<Others, TraceError> {
    let connect = |_| {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.connect_timeout(&addr.into(), FILL_WITHIN)?;
        Ok(TcpStream::from(socket))
    };
    let streams: io::Result<Vec<_>> = (0..wanted).map(connect).collect();
    let streams = streams.map_err(|cause| TraceError::Connect { addr, cause })?;
    let deadline = Instant::now() + FILL_WITHIN;
    loop {
        let got = queue(addr)?.map_or(0, |(_, queued)| queued);
        if got >= wanted {
            let filled_ns = uring_echo::clock::monotonic_ns();
            return Ok(Others { _streams: streams, filled_ns });
        }
        if Instant::now() > deadline {
            return Err(TraceError::Fill { wanted, got });
        }
        thread::sleep(Duration::from_millis(1));
    }
}

const FILL_WITHIN: Duration = Duration::from_secs(1);

/// What the envelope has of every command.
fn summarise(result: &mut RunResult, trace: &Trace) {
    let answered = trace.step(Event::Echoed).is_some();
    let outcome = if answered { "completed" } else { "not_echoed" };
    result.outcomes.attempted = 1;
    result.outcomes.ended = [(outcome.into(), 1)].into();
    result.verdict = Verdict { valid: true, ..Verdict::default() };
    let phases = [
        (Phase::AcceptDelay, Event::Accepted),
        (Phase::Connect, Event::Established),
        (Phase::FirstByte, Event::FirstByte),
    ];
    for (phase, event) in phases {
        let mut histogram = new_histogram();
        if let Some(ns) = trace.since_connect_ns(event) {
            histogram.saturating_record(ns);
        }
        result.histograms.insert(phase.name().into(), Summary::of(&histogram));
    }
}
