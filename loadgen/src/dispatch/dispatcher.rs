//! One generator thread: launches what is due, handles what completed, watches what waits.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::getsockname;
use uring_echo::clock::monotonic_ns;
use uring_echo::ring::{Completion, Handle, Op, Ring, Setup, Token};

use super::arrivals::Arrivals;
use super::endings;
use super::exchange::Exchange;
use super::sockets::{PREPARED_MAX, Recipe, Sockets};
use super::table::{Entry, SlotId, Table};
use super::{DispatchError, Plan};
use crate::config::Shape;
use crate::connection::{Connection, Context, Method, Script, Step};
use crate::ledger::{Ending, Ledger};
use crate::observe::{DiagWatch, Observation, ObservationKind};
use crate::payload::{Payload, Window};
use crate::record::Outcome;
use crate::schedule::{ThreadShare, nanos};
use crate::sources::Sources;

/// A generator thread's state. Made on its thread; everything it needs is allocated here.
#[derive(Debug)]
pub(super) struct Dispatcher {
    target: SocketAddr,
    timeout_ns: u64,
    yields: bool,
    stop: Arc<AtomicBool>,
    script: Script,
    ring: Ring,
    batch: Vec<Completion>,
    /// Completions not handled yet, and when they were there.
    completions: VecDeque<(Completion, u64)>,
    watch: Option<DiagWatch>,
    seen: Vec<Observation>,
    arrivals: Arrivals,
    launches_per_turn: u32,
    sockets: Sockets,
    table: Table,
    ledger: Ledger,
    exchange: Exchange,
    /// The number of the next connection; those of different threads are far apart.
    number: u64,
    /// When something last happened.
    stirred_ns: u64,
    interrupted: bool,
}

impl Dispatcher {
    pub(super) fn new(
        plan: &Plan,
        share: ThreadShare,
        exchange: Exchange,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, DispatchError> {
        let config = &plan.config;
        let slots = slots(plan, share);
        let payload = Payload::new(config.size, config.seed);
        let mut ring = Ring::new(&setup(slots, &payload))?;
        ring.stage(0, payload.block());
        let watch = match plan.method {
            Method::Diag => Some(DiagWatch::open(slots).map_err(DispatchError::Diag)?),
            Method::Stamp | Method::None => None,
        };
        let recipe = Recipe {
            target: plan.target,
            close: config.close,
            talks: plan.messages > 0,
            sources: Sources::expand(&config.sources).starting_at(share.index.into()),
        };
        let mut sockets = Sockets::new(recipe, slots, stock(plan, share));
        while sockets.prepare_one(0) {}
        let (messages, method, clock_domain) = (plan.messages, plan.method, plan.clock_domain);
        Ok(Self {
            target: plan.target,
            timeout_ns: nanos(config.timeout),
            yields: plan.yields,
            stop,
            script: Script { payload, messages, method, clock_domain },
            ring,
            batch: Vec::with_capacity(BATCH),
            completions: VecDeque::with_capacity(slots as usize * COMPLETIONS_EACH),
            watch,
            seen: Vec::with_capacity(LOOKS_PER_TURN as usize),
            arrivals: Arrivals::new(config, share, slots),
            launches_per_turn: match config.shape {
                Shape::Burst { .. } => BURST_PER_TURN,
                Shape::Rate { .. } | Shape::Closed { .. } => 1,
            },
            sockets,
            table: Table::new(slots),
            ledger: Ledger::new(config.warmup),
            exchange,
            number: u64::from(share.index) << 48,
            stirred_ns: 0,
            interrupted: false,
        })
    }

    /// Runs from `start_ns`, monotonic nanoseconds, until every attempt has its outcome.
    pub(super) fn run(mut self, start_ns: u64) -> Result<(), DispatchError> {
        self.ledger.begin(start_ns);
        self.arrivals.begin(start_ns);
        self.exchange.begin(start_ns);
        while self.arrivals.next_ns().is_some() || self.table.taken() > 0 {
            self.launch_due()?;
            self.handle()?;
            let now_ns = monotonic_ns();
            self.give_up_overdue(now_ns);
            self.exchange.turn(now_ns, &mut self.ledger);
            if self.stop.load(Ordering::Relaxed) && !self.interrupted {
                self.interrupt(now_ns);
            }
            self.use_slack(now_ns)?;
        }
        self.exchange.finish(monotonic_ns(), &mut self.ledger);
        Ok(())
    }

    /// Calls connect for what is due, and sees after each what has happened: when it was complete,
    /// and whether it is accepted. What follows has to wait, each send takes as long as a connect.
    fn launch_due(&mut self) -> Result<(), DispatchError> {
        for _ in 0..self.launches_per_turn {
            let due = self.arrivals.take_due(monotonic_ns());
            if let Some(intended_ns) = due {
                self.launch(intended_ns)?;
            }
            self.collect()?;
            self.look()?;
            if due.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn launch(&mut self, intended_ns: u64) -> Result<(), DispatchError> {
        let Some(id) = self.table.vacant() else {
            self.ledger.not_called(intended_ns, Outcome::Shed.into());
            return Ok(());
        };
        let socket = match self.sockets.take() {
            Ok(socket) => socket,
            Err(error) => return self.no_socket(intended_ns, error),
        };
        self.ring.connect(socket_of(&socket), self.target, token(Op::Connect, id));
        let called_ns = monotonic_ns();
        self.ring.poll()?;
        let returned_ns = monotonic_ns();
        let times = self.ledger.called(intended_ns, called_ns);
        let connection = Connection::new(self.number, times);
        self.number += 1;
        self.table.insert(Entry::connecting(socket, connection), called_ns);
        self.watch(id, queued_from_ns(called_ns, returned_ns));
        self.stirred_ns = returned_ns;
        Ok(())
    }

    /// Begins to look at the server's end of a connection. By the time the call of connect is over
    /// the client has its address; over loopback the server may have accepted already.
    fn watch(&mut self, id: SlotId, since_ns: u64) {
        let (Some(watch), Some(entry)) = (&mut self.watch, self.table.get(id)) else { return };
        if let Some(local) = local_addr(entry) {
            watch.add(id.index, self.target, local, since_ns);
        }
    }

    /// The attempt fails for want of a socket, and a closed loop goes on with the next.
    fn no_socket(&mut self, intended_ns: u64, error: std::io::Error) -> Result<(), DispatchError> {
        let Some(ending) = endings::of_socket(&error) else {
            return Err(DispatchError::Socket(error));
        };
        self.ledger.not_called(intended_ns, ending);
        self.arrivals.vacated(monotonic_ns());
        Ok(())
    }

    /// Takes what has completed, and the time. Since Linux 6.13 a poll brings 20 of many pending
    /// completions, so it is repeated.
    fn collect(&mut self) -> Result<(), DispatchError> {
        loop {
            self.ring.poll()?;
            let now_ns = monotonic_ns();
            self.ring.reap(&mut self.batch);
            if self.batch.is_empty() {
                return Ok(());
            }
            self.stirred_ns = now_ns;
            self.completions.extend(self.batch.drain(..).map(|done| (done, now_ns)));
        }
    }

    /// Submits what follows from some of the completions, so that the next arrival does not wait
    /// for long.
    fn handle(&mut self) -> Result<(), DispatchError> {
        for _ in 0..BATCH {
            let Some((done, at_ns)) = self.completions.pop_front() else { break };
            self.completed(done, at_ns);
        }
        Ok(self.ring.poll()?)
    }

    fn completed(&mut self, done: Completion, now_ns: u64) {
        let id = SlotId { index: done.token.index(), generation: done.token.generation() };
        let step = self.step_after(done, id, now_ns);
        if let Some(buffer) = done.buffer {
            self.ring.release(buffer);
        }
        if let Some(step) = step {
            self.carry_out(step, id, now_ns);
        }
        self.vacate_if_quiet(id);
    }

    /// What follows from a completion; nothing where the connection has its outcome already.
    fn step_after(&mut self, done: Completion, id: SlotId, now_ns: u64) -> Option<Step> {
        let entry = self.table.get(id)?;
        match done.token.op() {
            Op::Connect => entry.in_flight.connect = false,
            Op::Recv => entry.in_flight.receive = false,
            Op::Send => entry.in_flight.sends -= 1,
            // It found nothing to cancel: what it was for has completed.
            _ => return None,
        }
        if entry.ended {
            return None;
        }
        let cx = &mut Context { script: &self.script, ledger: &mut self.ledger, now_ns };
        let connection = &mut entry.connection;
        Some(match (done.token.op(), done.result) {
            (Op::Connect, Ok(_)) => return self.connected(id, now_ns),
            (Op::Connect, Err(errno)) => Step::End(endings::of_connect(errno)),
            (Op::Recv, Ok(0)) => connection.peer_finished(cx),
            (Op::Recv, Ok(len)) => {
                let buffer = done.buffer.expect("bytes arrive in a buffer");
                connection.received(self.ring.bytes(buffer, len), cx)
            }
            // All buffers were taken for a moment: ask again.
            (Op::Recv, Err(Errno::NOBUFS)) => Step::Wait,
            (Op::Send, Ok(len)) => {
                cx.ledger.sent(&connection.times, len);
                Step::Wait
            }
            (_, Err(errno)) => Step::End(endings::of_established(errno)),
            (_, Ok(_)) => return None,
        })
    }

    fn connected(&mut self, id: SlotId, now_ns: u64) -> Option<Step> {
        let entry = self.table.get(id)?;
        if local_addr(entry) == Some(self.target) {
            // Without a listener a socket can meet itself: simultaneous open (RFC 9293 §3.5).
            return Some(Step::End(Outcome::Refused.into()));
        }
        let cx = &mut Context { script: &self.script, ledger: &mut self.ledger, now_ns };
        Some(entry.connection.established(cx))
    }

    fn carry_out(&mut self, step: Step, id: SlotId, now_ns: u64) {
        match step {
            Step::Wait => self.listen(id),
            Step::Send(window) => self.send(window, id, now_ns),
            Step::End(ending) => self.end(ending, id, now_ns),
        }
    }

    /// Single receives: one that stays armed would keep the socket open after its close.
    fn listen(&mut self, id: SlotId) {
        let Some(entry) = self.table.get(id) else { return };
        if entry.connection.listens() && !entry.in_flight.receive {
            entry.in_flight.receive = true;
            self.ring.receive_one(Handle::from(entry.socket()), token(Op::Recv, id));
        }
    }

    fn send(&mut self, window: Window, id: SlotId, now_ns: u64) {
        let Some(entry) = self.table.get(id) else { return };
        entry.in_flight.sends += 1;
        let size = self.script.payload.size();
        let socket = Handle::from(entry.socket());
        self.ring.send_staged(socket, window.offset(), size, token(Op::Send, id));
        entry.connection.sends(monotonic_ns());
        if entry.connection.has_echoes() {
            self.table.restart_clock(id, now_ns);
        }
        self.listen(id);
    }

    fn end(&mut self, ending: Ending, id: SlotId, now_ns: u64) {
        let Some(entry) = self.table.get(id) else { return };
        self.ledger.ended(&entry.connection.times, ending, now_ns);
        entry.ended = true;
        if entry.in_flight.any() {
            self.ring.cancel_all(Handle::from(entry.socket()), token(Op::Cancel, id));
        }
        self.table.stop_clock(id);
        if let Some(watch) = &mut self.watch {
            watch.remove(id.index);
        }
    }

    /// Closes a connection that has its outcome once the kernel does nothing for it any more.
    fn vacate_if_quiet(&mut self, id: SlotId) {
        let quiet = self.table.get(id).is_some_and(|e| e.ended && !e.in_flight.any());
        if quiet {
            drop(self.table.remove(id));
            self.arrivals.vacated(monotonic_ns());
        }
    }

    /// Looks at connections whose accept is not yet seen.
    fn look(&mut self) -> Result<(), DispatchError> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let mut seen = mem::take(&mut self.seen);
        let note = &mut |observation| seen.push(observation);
        let looked = watch.pass(monotonic_ns(), LOOKS_PER_TURN, note);
        for observation in seen.drain(..) {
            self.observed(observation);
        }
        self.seen = seen;
        match looked {
            // Whoever was not answered about stays watched.
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                Err(DispatchError::Diag(error))
            }
            _ => Ok(()),
        }
    }

    fn observed(&mut self, observation: Observation) {
        let Observation { key, since_ns, bracket, kind } = observation;
        let (id, now_ns) = (self.table.owner(key), bracket.first_with_ns);
        let Some(entry) = self.table.get(id) else { return };
        let cx = &mut Context { script: &self.script, ledger: &mut self.ledger, now_ns };
        let step = match kind {
            ObservationKind::Accepted => entry.connection.seen_accepted(bracket, cx),
            ObservationKind::EndedUnseen => entry.connection.seen_ended(bracket, cx),
            // The server may not know of it yet (a dropped SYN, SYN cookies).
            ObservationKind::Vanished => return self.watch(id, since_ns),
        };
        self.carry_out(step, id, now_ns);
        self.vacate_if_quiet(id);
    }

    fn give_up_overdue(&mut self, now_ns: u64) {
        while let Some((id, since_ns)) = self.table.oldest() {
            if now_ns < since_ns.saturating_add(self.timeout_ns) {
                break;
            }
            let Some(entry) = self.table.get(id) else { break };
            let outcome = entry.connection.given_up(&self.script);
            self.end(outcome.into(), id, now_ns);
            self.vacate_if_quiet(id);
        }
    }

    /// No more arrivals; what is open ends as unfinished.
    fn interrupt(&mut self, now_ns: u64) {
        self.interrupted = true;
        self.arrivals.end();
        while let Some((id, _)) = self.table.oldest() {
            self.end(Outcome::Unfinished.into(), id, now_ns);
            self.vacate_if_quiet(id);
        }
    }

    /// Spends the time until something is due: prepares a socket, spins, or sleeps.
    fn use_slack(&mut self, now_ns: u64) -> Result<(), DispatchError> {
        let next_ns = self.arrivals.next_ns().unwrap_or(u64::MAX);
        let gap_ns = next_ns.saturating_sub(now_ns);
        if !self.completions.is_empty() {
            return Ok(());
        }
        if gap_ns > PREPARE_GAP_NS && self.sockets.prepare_one(self.table.taken()) {
            return Ok(());
        }
        let stirring = self.table.taken() > 0 && now_ns < self.stirred_ns + SPIN_AFTER_NS;
        if stirring || gap_ns < SLEEP_GAP_NS {
            return self.spin(gap_ns);
        }
        let until_ns = (next_ns - WAKE_EARLY_NS.min(next_ns)).min(self.next_chore_ns());
        let limit_ns = until_ns.saturating_sub(now_ns).clamp(1, SLEEP_MAX_NS);
        Ok(self.ring.wait(Some(Duration::from_nanos(limit_ns)))?)
    }

    fn spin(&mut self, gap_ns: u64) -> Result<(), DispatchError> {
        if self.yields {
            std::thread::yield_now();
        } else if let (Some(watch), REHEARSE_GAP_MIN_NS..REHEARSE_GAP_MAX_NS) =
            (&mut self.watch, gap_ns)
        {
            watch.rehearse(self.target).map_err(DispatchError::Diag)?;
        } else {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// When something besides an arrival or a completion is due.
    fn next_chore_ns(&self) -> u64 {
        let overdue_ns = self.table.oldest().map(|(_, at)| at.saturating_add(self.timeout_ns));
        let look_ns = self.watch.as_ref().and_then(DiagWatch::next_due_ns);
        let first = overdue_ns.into_iter().chain(look_ns).min();
        first.unwrap_or(u64::MAX).min(self.exchange.next_ns())
    }
}

/// The earliest instant at which a connection can have been in the accept queue, from when its
/// connect was called and when the call was over.
///
/// Only what the kernel shows in the server's own network namespace is watched, and there the whole
/// handshake runs inside the call: the last of its three segments queues the connection, and all
/// that comes after it is the way back. Of 9,000 accepts stamped by a spinning server on another
/// CPU, one in a hundred came before 95 % of the call were over and one in a thousand before 80 %.
/// A call that was interrupted says nothing.
fn queued_from_ns(called_ns: u64, returned_ns: u64) -> u64 {
    let call_ns = returned_ns - called_ns;
    if call_ns > CALL_MAX_NS { called_ns } else { called_ns + call_ns / 4 * 3 }
}

fn local_addr(entry: &Entry) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(entry.socket()).ok()?).ok()
}

/// The thread's share of the connections that may be open at once.
fn slots(plan: &Plan, share: ThreadShare) -> u32 {
    let slots = share.of_total(plan.config.max_in_flight.into());
    u32::try_from(slots).unwrap_or(u32::MAX).max(1)
}

/// Sockets to have ready: a whole burst, else enough for a busy moment.
fn stock(plan: &Plan, share: ThreadShare) -> u32 {
    let burst = share.of_total(plan.config.shape.at_once().into());
    u32::try_from(burst).unwrap_or(u32::MAX).max(PREPARED_MAX)
}

fn setup(slots: u32, payload: &Payload) -> Setup {
    let message = payload.size().saturating_add(STAMP_ROOM);
    Setup {
        submissions: 256,
        completions: slots.saturating_mul(2).clamp(1024, 16_384),
        buffers: 512,
        buffer_size: message
            .checked_next_power_of_two()
            .unwrap_or(BUFFER_MAX)
            .clamp(4096, BUFFER_MAX),
        direct: 0,
        staging: payload.block().len(),
        listeners: 0,
        restricted: false,
    }
}

fn token(op: Op, id: SlotId) -> Token {
    Token::new(op, id.index, id.generation)
}

fn socket_of(socket: &impl std::os::fd::AsFd) -> BorrowedFd<'_> {
    socket.as_fd()
}

/// Connects of a burst before anything else is done. At a rate it is one: if there is more to do
/// than there is time for, lateness shows it, and not connections that are never attended to.
const BURST_PER_TURN: u32 = 1024;
/// Completions one connection may have outstanding: connect, then a receive, two sends and a
/// cancellation.
const COMPLETIONS_EACH: usize = 4;
/// Completions handled between two looks at what is due, at most.
const BATCH: usize = 32;
/// Looks at waiting connections per turn, about a microsecond each.
const LOOKS_PER_TURN: u32 = 8;
/// A socket is prepared if no arrival is due for this long, ten times what it takes.
const PREPARE_GAP_NS: u64 = 50_000;
/// Looks are rehearsed this long before an arrival, but not so late that it would have to wait.
const REHEARSE_GAP_MAX_NS: u64 = 50_000;
const REHEARSE_GAP_MIN_NS: u64 = 4_000;
/// A connect that takes longer was interrupted; it usually takes 10 to 40 microseconds.
const CALL_MAX_NS: u64 = 100_000;
/// Nothing is slept away if an arrival is due within this time.
const SLEEP_GAP_NS: u64 = 1_000_000;
/// A sleep before an arrival ends this much earlier: waking up takes tens of microseconds, seldom
/// hundreds.
const WAKE_EARLY_NS: u64 = 500_000;
/// Spinning goes on for this long after the last event. The wake-up after a sleep then is less
/// than a thousandth of what had been waited for.
const SPIN_AFTER_NS: u64 = 50_000_000;
/// Longest sleep: how long a request to stop may go unnoticed.
const SLEEP_MAX_NS: u64 = 50_000_000;
/// A small message and the stamp before it fit one buffer.
const STAMP_ROOM: u32 = 64;
const BUFFER_MAX: u32 = 64 * 1024;
