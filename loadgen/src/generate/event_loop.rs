//! One generator thread: launches what is due, handles what completed, watches what waits.

mod giving_way;
mod idle;
mod inquest;
mod setup;
mod watching;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use uring_echo::clock::monotonic_ns;
use uring_echo::ring::Op;

use self::giving_way::GivingWay;
use self::idle::Idling;
use self::inquest::Inquest;
pub(super) use self::setup::{Part, Shared};
use self::watching::queued_from_ns;
use super::GenerateError;
use super::errnos;
use super::exchange::Exchange;
use super::open_connections::OpenConnections;
use super::sockets::Sockets;
use super::table::{Entry, SlotId, Table};
use super::transport::{CallSpan, Completion, Handshake, Transport};
use crate::generate::attempt_recorder::{AttemptRecorder, Ending};
use crate::generate::connection::{Connection, Context, Script, Step};
use crate::model::outcome::Outcome;
use crate::observe::{DiagWatch, Observation};
use crate::plan::arrivals::{ThreadArrivals, Vacated};
use crate::plan::payload::Window;

/// A generator thread's state. Made on its thread; everything it needs is allocated here.
#[derive(Debug)]
pub(super) struct EventLoop<T> {
    target: SocketAddr,
    timeout_ns: u64,
    idling: Idling,
    giving_way: GivingWay,
    stop: Arc<AtomicBool>,
    script: Script,
    transport: T,
    batch: Vec<Completion>,
    /// Completions not handled yet, and when they were there.
    completions: VecDeque<(Completion, u64)>,
    watch: Option<DiagWatch>,
    seen: Vec<Observation>,
    arrivals: ThreadArrivals,
    launches_per_turn: u32,
    sockets: Sockets,
    open: OpenConnections,
    table: Table,
    recorder: AttemptRecorder,
    inquest: Inquest,
    exchange: Exchange,
    /// The number of the next connection; those of different threads are far apart.
    number: u64,
    /// When something last happened.
    last_activity_ns: u64,
    interrupted: bool,
}

impl<T: Transport> EventLoop<T> {
    /// What the transport has to do without.
    pub(super) fn degraded(&self) -> &[String] {
        self.transport.degraded()
    }

    /// Runs from `start_ns`, monotonic nanoseconds, until every attempt has its outcome.
    pub(super) fn run(mut self, start_ns: u64) -> Result<(), GenerateError> {
        self.recorder.begin(start_ns);
        self.arrivals.begin(start_ns);
        self.exchange.begin(start_ns);
        while self.arrivals.next_ns().is_some() || self.table.taken() > 0 {
            self.launch_due()?;
            self.handle()?;
            self.give_way();
            let now_ns = monotonic_ns();
            if let Some(untaken) = self.arrivals.end_if_over(now_ns) {
                self.recorder.not_begun(untaken);
            }
            self.give_up_overdue(now_ns);
            self.exchange.turn(now_ns, &mut self.recorder);
            if self.stop.load(Ordering::Relaxed) && !self.interrupted {
                self.interrupt(now_ns);
            }
            self.use_slack(now_ns)?;
        }
        self.exchange.finish(monotonic_ns(), &mut self.recorder);
        Ok(())
    }

    /// Calls connect for what is due, and sees after each what has happened: when it was complete,
    /// and whether it is accepted. What follows has to wait, each send takes as long as a connect.
    fn launch_due(&mut self) -> Result<(), GenerateError> {
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

    fn launch(&mut self, intended_ns: u64) -> Result<(), GenerateError> {
        let Some(id) = self.table.vacant().filter(|_| self.open.take()) else {
            self.recorder.not_called(intended_ns, Outcome::Shed.into());
            return Ok(());
        };
        let socket = match self.sockets.take() {
            Ok(socket) => socket,
            Err(error) => return self.no_socket(intended_ns, error),
        };
        let call = self.giving_way.begin_call();
        let CallSpan { called_ns, returned_ns, asked_ns } = self.transport.connect(id, socket)?;
        // Before any bookkeeping: what has completed was there when the call was over.
        while self.take_completed(asked_ns) {}
        let interrupted = call.was_interrupted();
        let queued_ns = queued_from_ns(called_ns, returned_ns, interrupted);
        // Whoever ran during the call does not wait any more.
        self.giving_way.server_woken(if interrupted { returned_ns } else { queued_ns });
        // All of a burst enters before anybody else has a turn.
        if self.launches_per_turn == 1 {
            self.give_way();
        }
        let times = self.recorder.called(intended_ns, called_ns);
        let connection = Connection::new(self.number, times);
        self.number += 1;
        self.table.insert(Entry::connecting(connection), called_ns);
        self.watch(id, queued_ns);
        self.last_activity_ns = returned_ns;
        Ok(())
    }

    /// Lets the server run, if it waits for this CPU.
    fn give_way(&mut self) {
        if let Some(held) = self.giving_way.give_way() {
            self.recorder.cpu_held(held.from_ns, held.length_ns);
        }
    }

    /// The attempt fails for want of a socket, and a closed loop goes on with the next.
    fn no_socket(&mut self, intended_ns: u64, error: std::io::Error) -> Result<(), GenerateError> {
        self.open.give_back();
        let Some(ending) = errnos::of_socket(&error) else {
            return Err(GenerateError::Socket(error));
        };
        self.recorder.not_called(intended_ns, ending);
        self.arrivals.vacated(monotonic_ns(), Vacated::Refused);
        Ok(())
    }

    /// Takes what has completed, and the time. A poll may leave some of what is pending (a ring's
    /// brings 20 at once since Linux 6.13), so it is repeated.
    fn collect(&mut self) -> Result<(), GenerateError> {
        loop {
            self.transport.poll()?;
            if !self.take_completed(monotonic_ns()) {
                return Ok(());
            }
        }
    }

    /// Takes some of what has completed, which was there at this instant. Returns whether there was
    /// anything.
    fn take_completed(&mut self, at_ns: u64) -> bool {
        self.transport.reap(&mut self.batch);
        if self.batch.is_empty() {
            return false;
        }
        self.last_activity_ns = at_ns;
        self.completions.extend(self.batch.drain(..).map(|done| (done, at_ns)));
        true
    }

    /// Submits what follows from some of the completions, so that the next arrival does not wait
    /// for long.
    fn handle(&mut self) -> Result<(), GenerateError> {
        for _ in 0..BATCH {
            let Some((done, at_ns)) = self.completions.pop_front() else { break };
            self.completed(done, at_ns)?;
        }
        self.transport.submit()
    }

    fn completed(&mut self, done: Completion, now_ns: u64) -> Result<(), GenerateError> {
        let id = SlotId::new(done.token.index(), done.token.generation());
        let step = self.step_after(done, id, now_ns);
        if let Some(buffer) = done.buffer {
            self.transport.release(buffer);
        }
        if let Some(step) = step {
            self.carry_out(step, id, now_ns)?;
        }
        self.vacate_if_quiet(id);
        Ok(())
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
        if let (Op::Recv, Ok(_), Some(watch)) = (done.token.op(), done.result, &mut self.watch)
            && let Some(bracket) = watch.answered(id.index(), now_ns)
        {
            entry.connection.answered(bracket);
        }
        let cx = &mut Context { script: &self.script, recorder: &mut self.recorder, now_ns };
        let connection = &mut entry.connection;
        Some(match (done.token.op(), done.result) {
            (Op::Connect, Ok(_)) => return self.connected(id, now_ns),
            (Op::Connect, Err(errno)) => Step::End(errnos::of_connect(errno)),
            (Op::Recv, Ok(0)) => connection.peer_finished(cx),
            (Op::Recv, Ok(len)) => {
                let buffer = done.buffer.expect("bytes arrive in a buffer");
                connection.received(self.transport.bytes(buffer, len), cx)
            }
            // All buffers were taken for a moment: ask again.
            (Op::Recv, Err(Errno::NOBUFS)) => Step::Wait,
            (Op::Send, Ok(len)) => {
                cx.recorder.sent(&connection.times, len);
                connection.sent(cx)
            }
            (_, Err(errno)) => Step::End(errnos::of_established(errno)),
            (_, Ok(_)) => return None,
        })
    }

    fn connected(&mut self, id: SlotId, now_ns: u64) -> Option<Step> {
        if self.transport.local_addr(id) == Some(self.target) {
            // Without a listener a socket can meet itself: simultaneous open (RFC 9293 §3.5).
            return Some(Step::End(Outcome::Refused.into()));
        }
        let handshake = self.transport.handshake(id);
        let entry = self.table.get(id)?;
        let cx = &mut Context { script: &self.script, recorder: &mut self.recorder, now_ns };
        match handshake {
            Handshake::Over => Some(entry.connection.established(cx)),
            Handshake::UnderWay => {
                entry.in_flight.connect = true;
                self.transport.await_connect(id);
                None
            }
            // Only what was connected can be reset.
            Handshake::Failed(errno @ (Errno::CONNRESET | Errno::PIPE)) => {
                entry.connection.established(cx);
                Some(Step::End(errnos::of_established(errno)))
            }
            Handshake::Failed(errno) => Some(Step::End(errnos::of_connect(errno))),
        }
    }

    fn carry_out(&mut self, step: Step, id: SlotId, now_ns: u64) -> Result<(), GenerateError> {
        match step {
            Step::Wait => self.listen(id),
            Step::Send(window) => self.send(window, id, now_ns)?,
            Step::End(ending) => self.end(ending, id, now_ns),
        }
        Ok(())
    }

    /// Single receives: one that stays armed would keep the socket open after its close.
    fn listen(&mut self, id: SlotId) {
        let Some(entry) = self.table.get(id) else { return };
        if entry.connection.listens() && !entry.in_flight.receive {
            entry.in_flight.receive = true;
            self.transport.receive(id);
        }
    }

    /// Each send enters the kernel alone, right after its instant: a send takes microseconds, and
    /// one that waited behind others would have a longer round trip.
    fn send(&mut self, window: Window, id: SlotId, now_ns: u64) -> Result<(), GenerateError> {
        let Some(entry) = self.table.get(id) else { return Ok(()) };
        entry.in_flight.sends += 1;
        let start = window.offset();
        let sent_ns = monotonic_ns();
        entry.connection.sends(sent_ns);
        self.giving_way.server_woken(sent_ns);
        self.transport.send(id, start..start + self.script.payload.size() as usize);
        self.transport.submit()?;
        if entry.connection.has_echoes() {
            self.table.restart_clock(id, now_ns);
        }
        self.listen(id);
        Ok(())
    }

    fn end(&mut self, ending: Ending, id: SlotId, now_ns: u64) {
        let local = self.transport.local_addr(id);
        let Some(entry) = self.table.get(id) else { return };
        let times = &entry.connection.times;
        if let Some(local) = local.filter(|_| self.inquest.is_due(times, now_ns)) {
            self.inquest.retransmissions(times, local, self.target, &mut self.recorder);
        }
        self.recorder.ended(times, ending, now_ns);
        entry.ended = true;
        if entry.in_flight.any() {
            self.transport.cancel(id);
        }
        self.table.stop_clock(id);
        if let Some(watch) = &mut self.watch {
            watch.remove(id.index());
        }
    }

    /// Closes a connection that has its outcome once the kernel does nothing for it any more.
    fn vacate_if_quiet(&mut self, id: SlotId) {
        let quiet = self.table.get(id).is_some_and(|e| e.ended && !e.in_flight.any());
        if !quiet {
            return;
        }
        let Some(entry) = self.table.remove(id) else { return };
        self.transport.close(id);
        self.open.give_back();
        let served = entry.connection.times.is_established();
        let how = if served { Vacated::Served } else { Vacated::Refused };
        self.arrivals.vacated(monotonic_ns(), how);
    }

    fn give_up_overdue(&mut self, now_ns: u64) {
        while let Some((id, since_ns)) = self.table.oldest() {
            if now_ns < since_ns.saturating_add(self.timeout_ns) {
                break;
            }
            let Some(entry) = self.table.get(id) else { break };
            let mut outcome = entry.connection.given_up(&self.script);
            let local = self.transport.local_addr(id);
            if let (Outcome::NeverAccepted, Some(local)) = (outcome, local) {
                let times = &entry.connection.times;
                outcome = self.inquest.unaccepted(times, local, self.target, &mut self.recorder);
            }
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
}

/// Completions handled between two looks at what is due, at most.
const BATCH: usize = 32;

#[cfg(test)]
mod tests;
