//! When to accept, and how many at once: never more connections than there are places.
//!
//! The gate counts what the armed accepts may still bring (`promised`) and keeps it within the
//! free places. While those are plenty an accept is armed for as many as come; near the end, for
//! one at a time; at the end not at all. Who is not accepted waits in the kernel's queue, which
//! is where a full server wants them: closing them would only make them come back.

use super::{AcceptEnd, Action, Burst, ListenerId, Nanos, Stats};

#[derive(Debug)]
pub(super) struct Gate {
    listeners: Box<[Listener]>,
    /// What one [`Burst::Many`] may bring after its cancel was asked for.
    burst: u32,
    backoff: Nanos,
    open: bool,
    /// How many connections may still come without being asked for again.
    promised: u32,
    /// Who is to be armed first: the one after the last that was.
    next: usize,
    retry_at: Option<Nanos>,
    rotate_at: Option<Nanos>,
    fault: Option<ListenerId>,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    state: State,
    /// This listener's part of what is promised.
    allowance: u32,
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

impl Gate {
    pub(super) fn new(listeners: u8, burst: u32, backoff: Nanos) -> Self {
        let listener = Listener { state: State::Idle, allowance: 0 };
        Self {
            listeners: vec![listener; usize::from(listeners)].into_boxed_slice(),
            burst,
            backoff,
            open: false,
            promised: 0,
            next: 0,
            retry_at: None,
            rotate_at: None,
            fault: None,
        }
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Arms nothing from here on, and cancels what is armed.
    pub(super) fn close(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        self.open = false;
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

    /// A connection came while `free` places were left.
    pub(super) fn arrived(&mut self, listener: ListenerId, free: u32) {
        assert!(free > 0, "{listener:?} brought a connection for which there is no place");
        let entry = &mut self.listeners[usize::from(listener.0)];
        match entry.state {
            State::Many => assert!(free > self.promised, "more was promised than there is"),
            State::One | State::Cancelling => {
                assert!(entry.allowance > 0, "{listener:?} brought more than it was asked for");
                entry.allowance -= 1;
                self.promised -= 1;
            }
            State::Idle | State::BackingOff | State::Dead => {
                assert!(!self.open, "{listener:?} brought a connection while it was not armed");
                assert!(free > self.promised, "{listener:?} took a place promised to another");
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
        self.promised -= entry.allowance;
        entry.allowance = 0;
        entry.state = State::Idle;
        match end {
            AcceptEnd::Complete | AcceptEnd::Cancelled => {}
            AcceptEnd::Aborted => stats.accept_aborted += 1,
            AcceptEnd::Exhausted => {
                stats.accept_exhausted += 1;
                self.back_off(usize::from(listener.0), now);
            }
            AcceptEnd::Fatal => {
                entry.state = State::Dead;
                if self.open {
                    self.fault.get_or_insert(listener);
                }
            }
        }
    }

    /// A place became free, and with it whatever the system may have been short of.
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

    /// Arms what can be armed while `free` places are left, and takes back what cannot stay.
    pub(super) fn serve(&mut self, free: u32, now: Nanos, emit: &mut impl FnMut(Action<'_>)) {
        if !self.open {
            return;
        }
        self.arm_idle(free, emit);
        if free <= self.promised {
            self.cut_back(emit);
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

    pub(super) fn promised(&self) -> u32 {
        self.promised
    }

    pub(super) fn fault(&self) -> Option<ListenerId> {
        self.fault
    }

    pub(super) fn is_armed(&self) -> bool {
        self.listeners.iter().any(|listener| listener.state.is_armed())
    }

    /// Panics unless what is promised is the sum of its parts and within `free`.
    pub(super) fn assert_sound(&self, free: u32) {
        let sum: u32 = self.listeners.iter().map(|listener| listener.allowance).sum();
        assert_eq!(self.promised, sum, "promised differs from the sum of the allowances");
        assert!(self.promised <= free, "{sum} connections promised, {free} places");
    }

    fn arm_idle(&mut self, free: u32, emit: &mut impl FnMut(Action<'_>)) {
        let count = self.listeners.len();
        let first = self.next;
        for index in (first..count).chain(0..first) {
            if self.listeners[index].state == State::Idle {
                let spare = free - self.promised;
                if spare == 0 {
                    return;
                }
                self.arm(index, spare, emit);
                self.next = (index + 1) % count;
            }
        }
    }

    /// For many only if some more than a burst is spare: otherwise it would be cancelled soon.
    fn arm(&mut self, index: usize, spare: u32, emit: &mut impl FnMut(Action<'_>)) {
        let many = spare > self.burst.saturating_add(self.burst / 4);
        let (state, allowance, burst) = match many {
            true => (State::Many, self.burst, Burst::Many),
            false => (State::One, 1, Burst::One),
        };
        self.listeners[index] = Listener { state, allowance };
        self.promised += allowance;
        emit(Action::ArmAccept { listener: listener_id(index), burst });
    }

    /// No place is left beyond what is promised: whoever may bring many is stopped now, while
    /// there is still a place for each that comes before the cancel takes effect.
    fn cut_back(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].state == State::Many {
                self.cancel(index, emit);
            }
        }
    }

    /// Whether a listener waits for a place that another has, but does not use.
    fn is_unfair(&self) -> bool {
        let waits = |listener: &Listener| listener.state == State::Idle;
        self.listeners.iter().any(waits) && self.listeners.iter().any(Listener::is_unused)
    }

    /// Takes its place from whoever has had one, unused, for longest.
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

    /// One time for all listeners: each of them tries once in it.
    fn back_off(&mut self, index: usize, now: Nanos) {
        if self.open {
            self.listeners[index].state = State::BackingOff;
            self.retry_at.get_or_insert_with(|| now.plus(self.backoff));
        }
    }
}

impl Listener {
    /// Armed for one that has not come.
    fn is_unused(&self) -> bool {
        self.state == State::One && self.allowance == 1
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
