//! When to accept, and how many at once: never more connections than there are slots.
//!
//! An armed accept reserves slots for the connections that it may still bring; all reservations
//! together stay within the free slots. While many are free an accept is armed as multishot; when
//! few are left, for one connection at a time; when none is left, not at all. Connections that are
//! not accepted wait in the kernel's queue: closed instead, the clients would only reconnect.

use super::{AcceptEnd, Action, Burst, ListenerId, Nanos, Stats};

#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Box<[Listener]>,
    /// The most that one [`Burst::Many`] may bring after its cancel was asked for.
    burst: u32,
    backoff: Nanos,
    is_open: bool,
    /// Slots reserved by all listeners: the connections that armed accepts may still bring.
    reserved: u32,
    /// Listeners are armed in turn, starting after the last one that was.
    next: usize,
    retry_at: Option<Nanos>,
    rotate_at: Option<Nanos>,
    fault: Option<ListenerId>,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    state: State,
    /// Slots that its armed accept reserves.
    reserved: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    One,
    Many,
    Cancelling,
    /// The system was short of something: nothing is armed until `retry_at`.
    BackingOff,
    /// Unusable for good.
    Dead,
}

impl Acceptor {
    pub(super) fn new(listeners: u8, burst: u32, backoff: Nanos) -> Self {
        let listener = Listener { state: State::Idle, reserved: 0 };
        Self {
            listeners: vec![listener; usize::from(listeners)].into_boxed_slice(),
            burst,
            backoff,
            is_open: false,
            reserved: 0,
            next: 0,
            retry_at: None,
            rotate_at: None,
            fault: None,
        }
    }

    pub(super) fn start(&mut self) {
        self.is_open = true;
    }

    /// Arms nothing from here on, and cancels what is armed.
    pub(super) fn stop(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        self.is_open = false;
        self.retry_at = None;
        self.rotate_at = None;
        for index in 0..self.listeners.len() {
            match self.listeners[index].state {
                State::One | State::Many => self.cancel(index, emit),
                State::BackingOff => self.listeners[index].state = State::Idle,
                State::Idle | State::Cancelling | State::Dead => {}
            }
        }
    }

    /// While draining: reserves a slot for one connection that is queued already, if there is a
    /// slot and nothing else is armed on `listener`. An accept that never waits follows, and ends
    /// with [`Self::ended`].
    pub(super) fn begin_queued(&mut self, listener: ListenerId, free: u32) -> bool {
        let entry = &mut self.listeners[usize::from(listener.0)];
        if self.is_open || entry.state.is_armed() || free <= self.reserved {
            return false;
        }
        *entry = Listener { state: State::Cancelling, reserved: 1 };
        self.reserved += 1;
        true
    }

    /// A connection was accepted while `free` slots were left.
    pub(super) fn accepted(&mut self, listener: ListenerId, free: u32) {
        assert!(free > 0, "{listener:?} brought a connection for which there is no slot");
        let entry = &mut self.listeners[usize::from(listener.0)];
        match entry.state {
            State::Many => assert!(free > self.reserved, "more slots are reserved than free"),
            State::One | State::Cancelling => {
                assert!(entry.reserved > 0, "{listener:?} brought more than it was asked for");
                entry.reserved -= 1;
                self.reserved -= 1;
            }
            State::Idle | State::BackingOff | State::Dead => {
                panic!("{listener:?} brought a connection while it was not armed");
            }
        }
    }

    /// The accept of `listener` is no longer armed.
    pub(super) fn ended(
        &mut self,
        listener: ListenerId,
        end: AcceptEnd,
        now: Nanos,
        stats: &mut Stats,
    ) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        assert!(entry.state.is_armed(), "{listener:?} ended an accept it does not have");
        self.reserved -= std::mem::take(&mut entry.reserved);
        entry.state = State::Idle;
        match end {
            AcceptEnd::Complete => stats.accepted_singly += 1,
            AcceptEnd::Cancelled => {}
            AcceptEnd::Aborted => stats.accept_aborted += 1,
            AcceptEnd::Exhausted => {
                stats.accept_exhausted += 1;
                self.back_off(usize::from(listener.0), now);
            }
            AcceptEnd::Fatal => {
                entry.state = State::Dead;
                if self.is_open {
                    self.fault.get_or_insert(listener);
                }
            }
        }
    }

    /// A connection was closed: a system that was short of descriptors may have one again.
    pub(super) fn freed(&mut self) {
        if self.retry_at.take().is_none() {
            return;
        }
        for listener in &mut self.listeners {
            if listener.state == State::BackingOff {
                listener.state = State::Idle;
            }
        }
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Nanos, emit: &mut impl FnMut(Action<'_>)) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.freed();
        }
        if self.rotate_at.is_some_and(|at| at <= now) {
            self.rotate_at = None;
            self.rotate(emit);
        }
    }

    /// Arms what can be armed while `free` slots are left, and cancels what must not stay armed.
    pub(super) fn arm(&mut self, free: u32, now: Nanos, emit: &mut impl FnMut(Action<'_>)) {
        if !self.is_open {
            return;
        }
        self.arm_idle(free, emit);
        if free <= self.reserved {
            self.cancel_bursts(emit);
        }
        self.rotate_at = match self.rotate_at {
            _ if !self.is_unfair() => None,
            None => Some(now.plus(self.backoff)),
            set => set,
        };
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.retry_at.into_iter().chain(self.rotate_at).min()
    }

    pub(super) fn fault(&self) -> Option<ListenerId> {
        self.fault
    }

    pub(super) fn is_armed(&self) -> bool {
        self.listeners.iter().any(|listener| listener.state.is_armed())
    }

    /// Panics unless the reservations add up and are within `free`.
    pub(super) fn assert_sound(&self, free: u32) {
        let sum: u32 = self.listeners.iter().map(|listener| listener.reserved).sum();
        assert_eq!(self.reserved, sum, "the reservations do not add up");
        assert!(self.reserved <= free, "{sum} slots reserved, {free} free");
    }

    fn arm_idle(&mut self, free: u32, emit: &mut impl FnMut(Action<'_>)) {
        let count = self.listeners.len();
        let first = self.next;
        for index in (first..count).chain(0..first) {
            if self.listeners[index].state == State::Idle {
                let spare = free - self.reserved;
                if spare == 0 {
                    return;
                }
                self.arm_listener(index, spare, emit);
                self.next = (index + 1) % count;
            }
        }
    }

    /// Arms a multishot accept only if the spare slots exceed a burst by some: otherwise it would
    /// be cancelled soon.
    fn arm_listener(&mut self, index: usize, spare: u32, emit: &mut impl FnMut(Action<'_>)) {
        let many = spare > self.burst.saturating_add(self.burst / 4);
        let (state, reserved, burst) = match many {
            true => (State::Many, self.burst, Burst::Many),
            false => (State::One, 1, Burst::One),
        };
        self.listeners[index] = Listener { state, reserved };
        self.reserved += reserved;
        emit(Action::ArmAccept { listener: listener_id(index), burst });
    }

    /// Every free slot is reserved: multishot accepts are cancelled now, while there is still a
    /// slot for each connection that comes before the cancel takes effect.
    fn cancel_bursts(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == State::Many {
                self.cancel(index, emit);
            }
        }
    }

    /// Whether a listener is not armed because another one reserves the last slot, unused.
    fn is_unfair(&self) -> bool {
        let waits = |listener: &Listener| listener.state == State::Idle;
        self.listeners.iter().any(waits) && self.listeners.iter().any(Listener::is_unused)
    }

    /// Cancels the accept that has been unused for longest, so that another listener can be armed.
    fn rotate(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        let first = self.next;
        let mut order = (first..self.listeners.len()).chain(0..first);
        if let Some(index) = order.find(|&index| self.listeners[index].is_unused()) {
            self.cancel(index, emit);
        }
    }

    fn cancel(&mut self, index: usize, emit: &mut impl FnMut(Action<'_>)) {
        self.listeners[index].state = State::Cancelling;
        emit(Action::CancelAccept { listener: listener_id(index) });
    }

    /// The deadline is shared by all listeners: each of them tries once per back-off.
    fn back_off(&mut self, index: usize, now: Nanos) {
        if self.is_open {
            self.listeners[index].state = State::BackingOff;
            self.retry_at.get_or_insert_with(|| now.plus(self.backoff));
        }
    }
}

impl Listener {
    /// Armed for one connection that has not come yet.
    fn is_unused(&self) -> bool {
        self.state == State::One && self.reserved == 1
    }
}

impl State {
    fn is_armed(self) -> bool {
        matches!(self, Self::One | Self::Many | Self::Cancelling)
    }
}

fn listener_id(index: usize) -> ListenerId {
    ListenerId(u8::try_from(index).expect("there are at most 255 listeners"))
}
