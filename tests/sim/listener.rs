//! A listening socket and its queue.

use std::collections::VecDeque;

use uring_echo::echo::{AcceptEnd, Burst, Event, ListenerId, SocketId};

use super::client::Stage;
use super::completions::Lane;
use super::kernel::Kernel;
use super::random::Dice;

#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Clients, by number.
    pub(crate) queue: VecDeque<usize>,
    armed: Option<AcceptOp>,
    /// As the shard must see it: from the arming until the end is heard of.
    seen_armed: bool,
    /// Connections brought that the shard has not heard of.
    unheard: u32,
    /// The system was short of something, and nothing has changed since.
    pub(crate) exhausted: bool,
    pub(crate) dead: bool,
}

#[derive(Clone, Copy, Debug)]
struct AcceptOp {
    burst: Burst,
    /// Once cancelled: how many more it may bring before that takes effect.
    left: Option<u32>,
}

impl Listener {
    pub(crate) fn arm(&mut self, burst: Burst) {
        assert!(!self.seen_armed, "two accepts are armed");
        assert!(!self.dead, "armed on a listener that is dead");
        assert!(!self.exhausted, "an exhausted accept spins");
        self.seen_armed = true;
        self.armed = Some(AcceptOp { burst, left: None });
    }

    /// `burst` is how many more may come in spite of it. Tells what is cancelled, if that is not
    /// over by itself.
    pub(crate) fn cancel(&mut self, burst: u32) -> Option<Burst> {
        assert!(self.seen_armed, "no accept is armed");
        let accept = self.armed.as_mut()?;
        assert_eq!(accept.left, None, "cancelled twice");
        accept.left = Some(burst - self.unheard);
        Some(accept.burst)
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.seen_armed
    }

    pub(crate) fn heard_of_one(&mut self) {
        self.unheard -= 1;
    }

    pub(crate) fn heard_of_end(&mut self, end: AcceptEnd) {
        self.seen_armed = false;
        self.exhausted = end == AcceptEnd::Exhausted;
        self.dead |= end == AcceptEnd::Fatal;
    }
}

impl Kernel {
    pub(crate) fn listener(&mut self, listener: ListenerId) -> &mut Listener {
        &mut self.listeners[usize::from(listener.0)]
    }

    /// The accept of one listener gets somewhere, or ends. False if it has nothing to do.
    pub(crate) fn work_accept(&mut self, number: usize, dice: &mut Dice) -> bool {
        let Some(accept) = self.listeners[number].armed else { return false };
        let waiting = !self.listeners[number].queue.is_empty();
        if accept.left.is_some_and(|left| left == 0 || !waiting || dice.chance(500)) {
            self.end_accept(number, AcceptEnd::Cancelled);
            return true;
        }
        if let Some(end) = self.accept_fault(number, dice) {
            self.end_accept(number, end);
            return true;
        }
        let room = self.listeners[number].unheard < self.limits.accept_burst;
        if waiting && !room {
            self.end_accept(number, AcceptEnd::Complete);
            return true;
        }
        if waiting {
            self.accept_one(number, accept, dice);
        }
        waiting
    }

    /// The engine takes one connection out of a queue that nothing is armed on any more.
    pub(crate) fn take_queued(&mut self, number: usize) -> Option<Event> {
        let listener = &mut self.listeners[number];
        let client = listener.queue.pop_front().filter(|_| !listener.dead)?;
        self.listeners[number].unheard += 1;
        let socket = self.open_socket(client);
        Some(self.accepted(client, socket))
    }

    fn accept_one(&mut self, number: usize, accept: AcceptOp, dice: &mut Dice) {
        let listener = &mut self.listeners[number];
        let Some(client) = listener.queue.pop_front() else { return };
        if self.clients[client].reset && dice.chance(500) {
            self.clients[client].stage = Stage::Over;
            return self.end_accept(number, AcceptEnd::Aborted);
        }
        listener.unheard += 1;
        let left = accept.left.map(|left| left - 1);
        listener.armed = Some(AcceptOp { left, ..accept });
        let socket = self.open_socket(client);
        let event = self.accepted(client, socket);
        self.done.push(Lane::Accept(number), event);
        if accept.burst == Burst::One || dice.chance(self.faults.accept_ends) {
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

    fn accept_fault(&self, number: usize, dice: &mut Dice) -> Option<AcceptEnd> {
        if self.listeners[number].queue.is_empty() {
            return dice.chance(self.faults.fatal).then_some(AcceptEnd::Fatal);
        }
        if dice.chance(self.faults.exhausted) {
            return Some(AcceptEnd::Exhausted);
        }
        dice.chance(self.faults.aborted).then_some(AcceptEnd::Aborted)
    }

    fn end_accept(&mut self, number: usize, end: AcceptEnd) {
        self.listeners[number].armed = None;
        let listener = ListenerId(u8::try_from(number).expect("few listeners"));
        self.done.push(Lane::Accept(number), Event::AcceptEnded { listener, end });
    }
}
