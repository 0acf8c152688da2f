//! `versus client ADDR`: a load generator that shares no code with `loadgen`: a plain epoll loop
//! over persistent connections (or short ones) that compares every byte it gets back.

mod connection;
mod pattern;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::span::Span;
use connection::Connection;
use pattern::{PIECE, Pattern};

const EVENTS: usize = 1024;
const LONGEST_NS: u64 = 60_000_000_000;

/// What to send, for how long.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    addr: SocketAddr,
    /// Connections at once
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes per message
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Messages that a connection has out at once
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Messages per second altogether, instead of as many as possible; sleeps in between
    #[arg(long)]
    rate: Option<f64>,
    /// Replace a connection by a new one after this many messages
    #[arg(long)]
    replace_after: Option<u64>,
    /// Milliseconds of load before the measurement
    #[arg(long, default_value_t = 100)]
    warmup: u64,
    #[command(flatten)]
    span: Span,
}

/// What was seen between the end of the warm-up and the end of the measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClientResult {
    pub(crate) messages: u64,
    pub(crate) connections: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) client_cpu_ns: u64,
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// Age of the oldest message that had not come back when the measurement ended.
    pub(crate) oldest_out_ns: u64,
}

impl ClientResult {
    /// A connection that the server left waiting: what never came back is in none of the times.
    pub(crate) fn stuck(&self) -> Option<String> {
        let (oldest, most) = (self.oldest_out_ns, self.elapsed_ns / 2);
        let why = || format!("stuck: a message was out for {} ms at the end", oldest / 1_000_000);
        (oldest > most).then(why)
    }
}

/// Runs the load and prints [`ClientResult`] as JSON on stdout; `ready` goes to stderr once
/// connected.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut client = Client::new(options)?;
    eprintln!("ready");
    options.span.settle();
    client.start()?;
    client.drive(Duration::from_millis(options.warmup))?;
    let mark = client.mark()?;
    client.drive(options.span.duration())?;
    println!("{}", serde_json::to_string(&client.seen_since(&mark)?)?);
    eprintln!("done");
    options.span.settle();
    Ok(())
}

struct Client<'a> {
    options: &'a Options,
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// Messages of the connection at the same index since it was opened.
    served: Vec<u64>,
    opened: u64,
    pattern: Pattern,
    buffer: Vec<u8>,
    times: Histogram<u64>,
    pace: Option<Pace>,
}

/// A fixed rate: the connections take turns.
struct Pace {
    gap: Duration,
    due: Instant,
    turn: usize,
}

struct Mark {
    at: Instant,
    opened: u64,
    client_cpu_ns: u64,
    server_cpu_ns: Option<u64>,
}

impl<'a> Client<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let pace = options.rate.map(|rate| Pace {
            gap: Duration::from_secs_f64(1.0 / rate),
            due: Instant::now(),
            turn: 0,
        });
        let mut client = Self {
            options,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            served: vec![0; options.connections],
            opened: 0,
            pattern: Pattern::new(),
            buffer: vec![0; PIECE],
            times: Histogram::new_with_bounds(1, LONGEST_NS, 3)?,
            pace,
        };
        for index in 0..options.connections {
            let connection = client.open(index)?;
            client.connections.push(connection);
        }
        Ok(client)
    }

    fn open(&mut self, index: usize) -> Result<Connection> {
        let connection = Connection::open(self.options.addr, index, self.options.size)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &connection, EventData::new_u64(index as u64), flags)?;
        self.opened += 1;
        Ok(connection)
    }

    fn start(&mut self) -> Result<()> {
        match &mut self.pace {
            Some(pace) => pace.due = Instant::now(),
            None => {
                for connection in &mut self.connections {
                    connection.begin(self.options.depth, &self.pattern)?;
                }
            }
        }
        Ok(())
    }

    fn drive(&mut self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            let timeout = self.send_what_is_due(now, until)?;
            events.clear();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for events"),
            }
            for event in &events {
                self.handle(event)?;
            }
        }
    }

    /// How long to wait for events after that: not at all unless there is a rate to keep.
    fn send_what_is_due(&mut self, now: Instant, until: Instant) -> Result<Timespec> {
        let Some(pace) = &mut self.pace else { return Ok(Timespec { tv_sec: 0, tv_nsec: 0 }) };
        while pace.due <= now {
            pace.due += pace.gap;
            pace.turn = (pace.turn + 1) % self.connections.len();
            let connection = &mut self.connections[pace.turn];
            if connection.outstanding() < self.options.depth {
                connection.begin(1, &self.pattern)?;
            }
        }
        let wait = pace.due.min(until).saturating_duration_since(now);
        Ok(wait.try_into()?)
    }

    fn handle(&mut self, event: &Event) -> Result<()> {
        // The fields of an event are packed: copies, not references.
        let (index, flags) = (event.data.u64() as usize, event.flags);
        let connection = &mut self.connections[index];
        if flags.contains(EventFlags::OUT) {
            connection.flush(&self.pattern)?;
        }
        let times = &mut self.times;
        let whole = connection.receive(&mut self.buffer, &self.pattern, |time| {
            times.saturating_record(time.as_nanos() as u64);
        })?;
        if whole == 0 {
            return Ok(());
        }
        self.served[index] += whole as u64;
        if self.options.replace_after.is_some_and(|most| self.served[index] >= most) {
            return self.replace(index);
        }
        if self.pace.is_none() {
            self.connections[index].begin(whole, &self.pattern)?;
        }
        Ok(())
    }

    fn replace(&mut self, index: usize) -> Result<()> {
        let mut connection = self.open(index)?;
        connection.begin(self.options.depth, &self.pattern)?;
        connection.backdate();
        self.served[index] = 0;
        std::mem::replace(&mut self.connections[index], connection).abort()?;
        Ok(())
    }

    fn mark(&mut self) -> Result<Mark> {
        self.times.reset();
        Ok(Mark {
            server_cpu_ns: self.options.span.watch.map(process::cpu_ns).transpose()?,
            client_cpu_ns: process::cpu_ns(std::process::id())?,
            opened: self.opened,
            at: Instant::now(),
        })
    }

    fn seen_since(&self, mark: &Mark) -> Result<ClientResult> {
        let elapsed_ns = mark.at.elapsed().as_nanos() as u64;
        let server = self.options.span.watch.map(process::cpu_ns).transpose()?;
        Ok(ClientResult {
            messages: self.times.len(),
            connections: self.opened - mark.opened,
            elapsed_ns,
            client_cpu_ns: process::cpu_ns(std::process::id())?.saturating_sub(mark.client_cpu_ns),
            server_cpu_ns: server
                .zip(mark.server_cpu_ns)
                .map(|(after, before)| after.saturating_sub(before)),
            p50_ns: self.times.value_at_quantile(0.5),
            p99_ns: self.times.value_at_quantile(0.99),
            max_ns: self.times.max(),
            oldest_out_ns: self
                .connections
                .iter()
                .filter_map(Connection::oldest_out_ns)
                .max()
                .unwrap_or(0),
        })
    }
}
