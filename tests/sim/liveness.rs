//! What a shard must not do although no byte is lost by it: spin, hoard, or let others wait.

use uring_echo::echo::{AcceptEnd, Burst, Limits, Nanos};

use super::kernel::Kernel;
use super::socket::Socket;

/// What is counted to find that out, and to show what the runs went through.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Accepts that found the system short are not to be armed again before this: a time for all
    /// of them, so that each tries once in it.
    backoff_until: Option<Nanos>,
    /// Receives armed again after an empty pool ended them.
    wakes: u64,
    releases: u64,
    recv_ends: u64,
    ticks: u64,
    pub(crate) bursts: u64,
    pub(crate) cut_back: u64,
    pub(crate) turns: u64,
    pub(crate) full_sends: u64,
    pub(crate) orderly: u64,
    pub(crate) dead_listeners: u64,
    /// Times somebody waited for a buffer and a timer, in the end.
    starved_waits: u64,
}

impl Watch {
    pub(crate) fn released(&mut self) {
        self.releases += 1;
    }

    /// A receive ended, and not for want of a buffer.
    pub(crate) fn heard_of_recv_end(&mut self) {
        self.recv_ends += 1;
    }

    /// A receive is armed; `starved` if an empty pool had ended the one before.
    pub(crate) fn armed_recv(&mut self, starved: bool) {
        self.wakes += u64::from(starved);
    }

    pub(crate) fn armed_accept(&mut self, burst: Burst) {
        self.bursts += u64::from(burst == Burst::Many);
    }

    pub(crate) fn cancelled_accept(&mut self, burst: Burst, draining: bool) {
        match burst {
            _ if draining => {}
            Burst::Many => self.cut_back += 1,
            Burst::One => self.turns += 1,
        }
    }

    pub(crate) fn heard_of_accept_end(&mut self, end: AcceptEnd, backoff_until: Nanos) {
        self.dead_listeners += u64::from(end == AcceptEnd::Fatal);
        if end == AcceptEnd::Exhausted {
            self.backoff_until.get_or_insert(backoff_until);
        }
    }

    /// Each wake is paid for: by a buffer that came home (which may also let its own connection
    /// go on), by one who was woken and ended without a buffer, or by a timer.
    fn assert_no_spin(&self, limits: &Limits) {
        let paid = 2 * self.releases + self.recv_ends + self.ticks * u64::from(limits.buffers);
        assert!(self.wakes <= paid, "{} wakes, {} releases", self.wakes, self.releases);
    }
}

impl Kernel {
    pub(crate) fn tick(&mut self) {
        self.watch.ticks += 1;
        if self.watch.backoff_until.is_some_and(|until| until <= self.now) {
            self.end_backoff();
        }
    }

    /// Its time is over, or a close gave back whatever the system was short of.
    pub(crate) fn end_backoff(&mut self) {
        self.watch.backoff_until = None;
        self.listeners.iter_mut().for_each(|listener| listener.exhausted = false);
    }

    /// After every event.
    pub(crate) fn watch(&self) {
        self.watch.assert_no_spin(&self.limits);
        for socket in self.sockets.iter().flatten() {
            self.assert_no_hoard(socket);
        }
    }

    /// Everyone waits for a timer. If that is for want of a buffer, the wakes were lost: once or
    /// twice is fair, since the kernel here may say that the pool is empty when it is not.
    pub(crate) fn assert_not_starving(&mut self) {
        let starved = |socket: &Socket| socket.seen.starved && !socket.seen.given_up;
        self.watch.starved_waits += u64::from(self.sockets.iter().flatten().any(starved));
        assert!(self.watch.starved_waits <= 3, "connections wait for buffers nobody has");
    }

    /// Whoever holds as much as it may does not ask for more.
    fn assert_no_hoard(&self, socket: &Socket) {
        let seen = &socket.seen;
        let full = seen.held * self.memory.size() >= self.limits.credit;
        let asking = seen.receiving && !seen.cancelling && !seen.given_up;
        assert!(!(full && asking), "{:?} holds {} buffers", socket.conn, seen.held);
    }
}
