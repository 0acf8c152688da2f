//! A listening socket and its queue.

use std::collections::VecDeque;

use uring_echo::echo::{AcceptEnd, Burst, Event, ListenerId, SocketId};

use super::client::Stage;
use super::completions::OpKey;
use super::kernel::Kernel;
use super::random::Random;

#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Clients, by number.
    pub(crate) queue: VecDeque<usize>,
    armed: Option<AcceptOp>,
    /// As the shard sees it: from the arming until the end is delivered.
    view_armed: bool,
    /// Connections accepted whose events are not delivered.
    undelivered: u32,
    /// The system was short of something, and the back-off has not ended.
    pub(crate) exhausted: bool,
    pub(crate) dead: bool,
}

#[derive(Clone, Copy, Debug)]
struct AcceptOp {
    burst: Burst,
    /// Once cancelled: how many more it may bring before the cancel takes effect.
    left: Option<u32>,
}

impl Listener {
    pub(crate) fn arm(&mut self, burst: Burst) {
        assert!(!self.view_armed, "two accepts are armed");
        assert!(!self.dead, "armed on a listener that is dead");
        assert!(!self.exhausted, "an exhausted accept spins");
        self.view_armed = true;
        self.armed = Some(AcceptOp { burst, left: None });
    }

    /// The engine's accept of one queued connection, cancelled as soon as it is submitted.
    pub(crate) fn arm_queued(&mut self) {
        self.arm(Burst::One);
        self.armed = Some(AcceptOp { burst: Burst::One, left: Some(1) });
    }

    /// Whether the engine has a reason to take from the queue by itself.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty() && !self.view_armed && !self.exhausted && !self.dead
    }

    /// `burst` is how many more may come nevertheless. Returns what is cancelled, if it has not
    /// ended by itself.
    pub(crate) fn cancel(&mut self, burst: u32) -> Option<Burst> {
        assert!(self.view_armed, "no accept is armed");
        let accept = self.armed.as_mut()?;
        assert_eq!(accept.left, None, "cancelled twice");
        accept.left = Some(burst - self.undelivered);
        Some(accept.burst)
    }

    pub(crate) fn accept_delivered(&mut self) {
        self.undelivered -= 1;
    }

    pub(crate) fn end_delivered(&mut self, end: AcceptEnd) {
        self.view_armed = false;
        self.exhausted = end == AcceptEnd::Exhausted;
        self.dead |= end == AcceptEnd::Fatal;
    }
}

impl Kernel {
    pub(crate) fn listener(&mut self, listener: ListenerId) -> &mut Listener {
        &mut self.listeners[usize::from(listener.0)]
    }

    /// Advances or ends the accept of one listener. False if there is nothing to do.
    pub(crate) fn work_accept(&mut self, number: usize, random: &mut Random) -> bool {
        let Some(accept) = self.listeners[number].armed else { return false };
        let waiting = !self.listeners[number].queue.is_empty();
        if accept.left.is_some_and(|left| left == 0 || !waiting || random.chance(500)) {
            self.end_accept(number, AcceptEnd::Cancelled);
            return true;
        }
        if let Some(end) = self.accept_fault(number, random) {
            self.end_accept(number, end);
            return true;
        }
        let room = self.listeners[number].undelivered < self.limits.accept_burst;
        if waiting && !room {
            self.end_accept(number, AcceptEnd::Complete);
            return true;
        }
        if waiting {
            self.accept_one(number, accept, random);
        }
        waiting
    }

    fn accept_one(&mut self, number: usize, accept: AcceptOp, random: &mut Random) {
        let listener = &mut self.listeners[number];
        let Some(client) = listener.queue.pop_front() else { return };
        if self.clients[client].reset && random.chance(500) {
            self.clients[client].stage = Stage::Over;
            return self.end_accept(number, AcceptEnd::Aborted);
        }
        listener.undelivered += 1;
        let left = accept.left.map(|left| left - 1);
        listener.armed = Some(AcceptOp { left, ..accept });
        let socket = self.add_socket(client);
        let event = self.accepted(client, socket);
        self.completions.push(OpKey::Accept(number), event);
        if accept.burst == Burst::One || random.chance(self.faults.accept_ends) {
            self.end_accept(number, AcceptEnd::Complete);
        }
    }

    fn accepted(&self, client: usize, socket: usize) -> Event {
        let counted = self.limits.max_per_ip.is_some();
        Event::Accepted {
            listener: self.clients[client].listener(),
            socket: SocketId(u32::try_from(socket).expect("few sockets")),
            peer: counted.then(|| self.clients[client].address()),
        }
    }

    fn accept_fault(&self, number: usize, random: &mut Random) -> Option<AcceptEnd> {
        if self.listeners[number].queue.is_empty() {
            return random.chance(self.faults.fatal).then_some(AcceptEnd::Fatal);
        }
        if random.chance(self.faults.exhausted) {
            return Some(AcceptEnd::Exhausted);
        }
        random.chance(self.faults.aborted).then_some(AcceptEnd::Aborted)
    }

    fn end_accept(&mut self, number: usize, end: AcceptEnd) {
        self.listeners[number].armed = None;
        let listener = ListenerId(u8::try_from(number).expect("few listeners"));
        self.completions.push(OpKey::Accept(number), Event::AcceptEnded { listener, end });
    }
}
