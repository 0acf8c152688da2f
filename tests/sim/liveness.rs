//! Checks of liveness: a shard must not spin, hoard buffers or let connections wait needlessly.

use uring_echo::echo::{AcceptEnd, Burst, Limits, Nanos};

use super::kernel::Kernel;
use super::socket::Socket;

/// Counters for these checks and for the coverage.
#[derive(Debug, Default)]
pub(crate) struct LivenessChecks {
    /// Accepts that found the system short are not to be armed again before this. It is the same
    /// instant for all of them, so that each tries once per back-off.
    backoff_until: Option<Nanos>,
    /// Receives armed again after an empty pool ended them.
    wakes: u64,
    releases: u64,
    recv_ends: u64,
    writables: u64,
    ticks: u64,
    pub(crate) bursts: u64,
    pub(crate) bursts_cancelled: u64,
    pub(crate) rotations: u64,
    pub(crate) full_sends: u64,
    pub(crate) orderly: u64,
    /// Receives that went on in another buffer.
    pub(crate) bundles: u64,
    pub(crate) dead_listeners: u64,
    /// How often, while settling, a connection waited for a buffer and everything for a timer.
    starved_waits: u64,
}

impl LivenessChecks {
    pub(crate) fn released(&mut self) {
        self.releases += 1;
    }

    /// A receive ended, for another reason than an empty pool.
    pub(crate) fn recv_end_delivered(&mut self) {
        self.recv_ends += 1;
    }

    /// A socket is writable, which may end the wait of a receive that an empty pool ended before.
    pub(crate) fn writable_delivered(&mut self) {
        self.writables += 1;
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
            Burst::Many => self.bursts_cancelled += 1,
            Burst::One => self.rotations += 1,
        }
    }

    pub(crate) fn accept_end_delivered(&mut self, end: AcceptEnd, backoff_until: Nanos) {
        self.dead_listeners += u64::from(end == AcceptEnd::Fatal);
        if end == AcceptEnd::Exhausted {
            self.backoff_until.get_or_insert(backoff_until);
        }
    }

    /// Each wake has a cause: a released buffer (which may also let its own connection go on), a
    /// woken connection that ended its receive without a buffer, a writable socket, or a timer.
    fn assert_no_spin(&self, limits: &Limits) {
        let events = 2 * self.releases + self.recv_ends + self.writables;
        let paid = events + self.ticks * u64::from(limits.buffers);
        assert!(self.wakes <= paid, "{} wakes, {} releases", self.wakes, self.releases);
    }
}

impl Kernel {
    pub(crate) fn tick(&mut self) {
        self.liveness.ticks += 1;
        if self.liveness.backoff_until.is_some_and(|until| until <= self.now) {
            self.end_backoff();
        }
    }

    /// The back-off has passed, or a close has freed what the system was short of.
    pub(crate) fn end_backoff(&mut self) {
        self.liveness.backoff_until = None;
        self.listeners.iter_mut().for_each(|listener| listener.exhausted = false);
    }

    /// After every event.
    pub(crate) fn liveness(&self) {
        self.liveness.assert_no_spin(&self.limits);
        for (number, socket) in self.sockets.iter().enumerate() {
            if let Some(socket) = socket {
                self.assert_no_hoard(number, socket);
            }
        }
    }

    /// Everything waits for a timer. If a connection waits for a buffer then, a wake was lost. Once
    /// or twice is acceptable, since this kernel may report an empty pool when it is not.
    pub(crate) fn assert_not_starving(&mut self) {
        let starved = |socket: &Socket| socket.view.starved && !socket.view.aborted;
        self.liveness.starved_waits += u64::from(self.sockets.iter().flatten().any(starved));
        assert!(self.liveness.starved_waits <= 3, "connections wait although buffers are free");
    }

    /// A connection at its credit does not receive.
    fn assert_no_hoard(&self, number: usize, socket: &Socket) {
        let view = &socket.view;
        let held = self.memory.held(number);
        let full = held * self.memory.size() >= self.limits.credit;
        let is_amid = self.amid_receive == Some(number);
        let asking = view.receiving && !view.cancelling && !view.aborted && !is_amid;
        assert!(!(full && asking), "{:?} holds {held} buffers", socket.conn);
        let goes_on = asking && view.watching && !view.woken;
        assert!(!goes_on, "{:?} receives while its socket has no room", socket.conn);
    }
}
