//! The connections of one ring: opened a window at a time, looked at in the end, and reset.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use uring_echo::ring::{Completion, Direct, Handle, Op, Ring, Setup, SocketOption, Token};

use super::echo::{Echo, MESSAGE};
use super::{EndedEarly, HoldingError, Opened};
use crate::plan::payload::Payload;
use crate::plan::sources::Sources;

/// One ring and what it holds.
#[derive(Debug)]
pub(super) struct Share<'a> {
    ring: Ring,
    spec: ShareSpec<'a>,
    connections: Vec<Connection>,
    batch: Vec<Completion>,
    wanted: u32,
    under_way: u32,
    opened: Opened,
    failures_in_a_row: u32,
}

/// What the connections of a share have in common with those of others.
#[derive(Clone, Debug)]
pub(super) struct ShareSpec<'a> {
    pub(super) target: SocketAddr,
    pub(super) sources: Sources,
    /// The number of the first connection, over all shares.
    pub(super) first: u64,
    pub(super) payload: &'a Payload,
    pub(super) stop: &'a AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    socket: Option<Direct>,
    in_flight: u8,
    echo: Echo,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// On its way.
    Opening,
    /// Its echo is whole.
    Echoed,
    Failed,
    /// Held, with nothing in flight.
    Held,
    /// It was held, and its end or bytes nobody asked for have come.
    Lost,
    Closed,
}

impl ShareSpec<'_> {
    /// Where the message of a connection begins in the payload: each has another one, so that an
    /// echo on the wrong connection is seen.
    fn message_offset(&self, number: u32) -> usize {
        self.payload.window(self.first + u64::from(number), 0).offset()
    }
}

impl<'a> Share<'a> {
    /// Makes the ring, on the thread that uses it, with room for `wanted` connections.
    pub(super) fn new(wanted: u32, spec: ShareSpec<'a>) -> Result<Self, HoldingError> {
        let mut ring = Ring::new(&setup(wanted, spec.payload.block().len()))?;
        ring.stage(0, spec.payload.block());
        Ok(Self {
            ring,
            spec,
            connections: Vec::with_capacity(wanted as usize),
            batch: Vec::with_capacity(2 * WINDOW as usize),
            wanted,
            under_way: 0,
            opened: Opened::default(),
            failures_in_a_row: 0,
        })
    }

    /// Opens all, until a stop is asked for or the server does not serve any more.
    pub(super) fn open(&mut self) -> Result<Opened, HoldingError> {
        let mut last_answer = Instant::now();
        while self.under_way > 0 || (self.opened.ended_early.is_none() && self.left() > 0) {
            if let Some(why) = self.why_end_early(last_answer) {
                self.end_early(why);
            }
            let goes_on = self.opened.ended_early.is_none();
            while goes_on && self.under_way < WINDOW && self.left() > 0 {
                self.begin();
            }
            if self.turn()? > 0 {
                last_answer = Instant::now();
            }
        }
        Ok(std::mem::take(&mut self.opened))
    }

    fn why_end_early(&self, last_answer: Instant) -> Option<EndedEarly> {
        if self.opened.ended_early.is_some() {
            None
        } else if self.spec.stop.load(Ordering::Relaxed) {
            Some(EndedEarly::Stopped)
        } else if self.failures_in_a_row >= FAILURES_IN_A_ROW {
            Some(EndedEarly::Failing)
        } else {
            (last_answer.elapsed() > PATIENCE).then_some(EndedEarly::Silence)
        }
    }

    /// How many of those that it holds are not open and idle any more.
    pub(super) fn count_lost(&mut self) -> Result<u32, HoldingError> {
        self.for_each_held(Self::look)?;
        let lost = self.connections.iter().filter(|held| held.stage == Stage::Lost).count();
        Ok(u32::try_from(lost).unwrap_or(u32::MAX))
    }

    /// Resets every connection.
    pub(super) fn reset(&mut self) -> Result<(), HoldingError> {
        self.for_each_held(Self::close)
    }

    fn left(&self) -> u32 {
        self.wanted - self.begun()
    }

    fn begun(&self) -> u32 {
        u32::try_from(self.connections.len()).expect("not more than wanted")
    }

    fn begin(&mut self) {
        let number = self.begun();
        let stage = Stage::Opening;
        let connection = Connection { socket: None, in_flight: 1, echo: Echo::default(), stage };
        self.connections.push(connection);
        self.under_way += 1;
        self.ring.open_direct(self.spec.target, token(Op::Socket, number));
    }

    /// Submits, waits for a moment, and handles what has completed: for how many connections
    /// something was answered.
    fn turn(&mut self) -> Result<usize, HoldingError> {
        self.ring.wait(Some(STOP_CHECK))?;
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.reap(&mut batch);
        let answers = batch.iter().filter(|done| self.completed(done)).count();
        self.batch = batch;
        Ok(answers)
    }

    /// Whether it was an answer to something that always has one.
    fn completed(&mut self, done: &Completion) -> bool {
        let (op, number) = (done.token.op(), done.token.index());
        if op == Op::Cancel {
            return false;
        }
        if op != Op::Prepare {
            self.connections[number as usize].in_flight -= 1;
        }
        let stage = self.connections[number as usize].stage;
        // All buffers were taken for a moment, which says nothing of the connection.
        let is_answer = done.result != Err(Errno::NOBUFS) || op != Op::Recv;
        match stage {
            Stage::Opening if is_answer => self.step(number, done),
            Stage::Opening => self.receive(number),
            Stage::Held if !is_answer => self.look(number),
            _ => self.seen(number, done),
        }
        if let Some(buffer) = done.buffer {
            self.ring.release(buffer);
        }
        self.settle(number);
        is_answer && op != Op::Prepare
    }

    /// The next step of a connection that is on its way.
    fn step(&mut self, number: u32, done: &Completion) {
        match (done.token.op(), done.result) {
            (Op::Socket, Ok(slot)) => self.connect(number, slot),
            (Op::Connect, Ok(_)) => self.exchange(number),
            (Op::Send, Ok(MESSAGE)) => {}
            (Op::Send, Ok(_)) => self.fail(number, || "not all was sent".into()),
            (Op::Recv, Ok(0)) => self.fail(number, || "the stream ends before the echo".into()),
            (Op::Recv, Ok(len)) => self.received(number, done, len),
            (op, Err(errno)) => {
                self.fail(number, || format!("{}: {}", name(op), std::io::Error::from(errno)));
            }
            (_, Ok(_)) => {}
        }
    }

    fn connect(&mut self, number: u32, slot: u32) {
        let socket = self.ring.direct(slot);
        self.connections[number as usize].socket = Some(socket);
        let prepare = token(Op::Prepare, number);
        self.ring.prepare(socket, SocketOption::ResetOnClose, prepare);
        if let Some(source) = self.spec.sources.next_source() {
            self.ring.prepare(socket, SocketOption::PortByConnect, prepare);
            self.ring.bind_direct(socket, SocketAddr::new(source, 0), prepare);
        }
        let target = self.spec.target;
        self.ring.connect(Handle::Direct(socket), target, token(Op::Connect, number));
        self.connections[number as usize].in_flight += 1;
    }

    fn exchange(&mut self, number: u32) {
        self.opened.opened += 1;
        let Some(socket) = self.connections[number as usize].socket else { return };
        let offset = self.spec.message_offset(number);
        self.ring.send_staged(Handle::Direct(socket), offset, MESSAGE, token(Op::Send, number));
        self.connections[number as usize].in_flight += 1;
        self.receive(number);
    }

    fn receive(&mut self, number: u32) {
        let connection = &mut self.connections[number as usize];
        let Some(socket) = connection.socket else { return };
        connection.in_flight += 1;
        self.ring.receive_one(Handle::Direct(socket), token(Op::Recv, number));
    }

    fn received(&mut self, number: u32, done: &Completion, len: u32) {
        let buffer = done.buffer.expect("bytes arrive in a buffer");
        let message =
            &self.spec.payload.block()[self.spec.message_offset(number)..][..MESSAGE as usize];
        let connection = &mut self.connections[number as usize];
        match connection.echo.take(self.ring.bytes(buffer, len), message) {
            Some(true) => connection.stage = Stage::Echoed,
            Some(false) => self.receive(number),
            None => self.fail(number, || "other bytes came back than were sent".into()),
        }
    }

    /// What a completion says of a connection that is not on its way.
    fn seen(&mut self, number: u32, done: &Completion) {
        let connection = &mut self.connections[number as usize];
        let idle = done.result == Err(Errno::AGAIN);
        match (connection.stage, done.token.op()) {
            (Stage::Held, Op::Recv) if !idle => connection.stage = Stage::Lost,
            (_, Op::Close) => connection.stage = Stage::Closed,
            _ => {}
        }
    }

    fn fail(&mut self, number: u32, why: impl Fn() -> String) {
        self.connections[number as usize].stage = Stage::Failed;
        self.failures_in_a_row += 1;
        self.opened.first_error.get_or_insert_with(why);
    }

    /// A connection of which nothing is in flight is held, or closed if it has failed.
    fn settle(&mut self, number: u32) {
        let connection = &mut self.connections[number as usize];
        if connection.in_flight > 0 {
            return;
        }
        match connection.stage {
            Stage::Echoed => {
                connection.stage = Stage::Held;
                self.under_way -= 1;
                self.opened.echoed += 1;
                self.failures_in_a_row = 0;
            }
            Stage::Failed => match connection.socket.take() {
                Some(socket) => {
                    connection.in_flight = 1;
                    self.ring.close_direct(socket, token(Op::Close, number));
                }
                None => self.gone(number),
            },
            Stage::Closed if connection.socket.is_none() => self.gone(number),
            Stage::Opening | Stage::Held | Stage::Lost | Stage::Closed => {}
        }
    }

    fn gone(&mut self, number: u32) {
        self.connections[number as usize].stage = Stage::Closed;
        self.under_way -= 1;
    }

    /// Begins nothing more, and cancels what is on its way.
    fn end_early(&mut self, why: EndedEarly) {
        self.opened.ended_early = Some(why);
        let begun = self.connections.iter().enumerate();
        let opening = begun.filter(|(_, connection)| connection.stage == Stage::Opening);
        let opening: Vec<usize> = opening.map(|(number, _)| number).collect();
        for number in opening.into_iter().filter_map(|number| u32::try_from(number).ok()) {
            self.fail(number, || why.text().into());
            if let Some(socket) = self.connections[number as usize].socket {
                self.ring.cancel_all(Handle::Direct(socket), token(Op::Cancel, number));
            }
        }
    }

    /// Asks whether a connection that is held has anything to receive.
    fn look(&mut self, number: u32) {
        let connection = &mut self.connections[number as usize];
        let Some(socket) = connection.socket else { return };
        connection.in_flight += 1;
        self.ring.receive_at_once(Handle::Direct(socket), token(Op::Recv, number));
    }

    fn close(&mut self, number: u32) {
        let connection = &mut self.connections[number as usize];
        let Some(socket) = connection.socket else { return };
        connection.in_flight += 1;
        self.ring.close_direct(socket, token(Op::Close, number));
    }

    /// Asks something of each connection that is held, a window at a time, and waits for the
    /// answers.
    fn for_each_held(&mut self, ask: impl Fn(&mut Self, u32)) -> Result<(), HoldingError> {
        let mut waiting = 0;
        for number in 0..self.begun() {
            let stage = self.connections[number as usize].stage;
            if !matches!(stage, Stage::Held | Stage::Lost) {
                continue;
            }
            ask(self, number);
            waiting += 1;
            while waiting >= WINDOW as usize {
                waiting -= self.turn()?;
            }
        }
        while waiting > 0 {
            waiting -= self.turn()?;
        }
        Ok(())
    }
}

fn token(op: Op, number: u32) -> Token {
    Token::new(op, number, 0)
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Socket => "making a socket",
        Op::Prepare => "binding a socket to its source address",
        Op::Connect => "connecting",
        Op::Send => "sending",
        Op::Recv => "waiting for the echo",
        _ => "closing",
    }
}

pub(super) fn setup(connections: u32, staging: usize) -> Setup {
    Setup {
        submissions: 4 * WINDOW,
        completions: 8 * WINDOW,
        buffers: BUFFERS,
        buffer_size: BUFFER,
        direct: connections,
        staging,
        listeners: 0,
        peers: false,
        restricted: false,
        napi: None,
    }
}

/// Connections of a ring that are on their way at a time. Few: what the kernel has of each stays in
/// the caches until its echo is back.
const WINDOW: u32 = 64;
const BUFFERS: u16 = 64;
/// A stamp and a message fit.
const BUFFER: u32 = 256;
/// How long the server may leave all of them without any answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that is gone refuses all: it is not asked a million times.
const FAILURES_IN_A_ROW: u32 = 1000;
/// How long a request to stop may go unnoticed.
const STOP_CHECK: Duration = Duration::from_millis(50);
