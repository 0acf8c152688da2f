//! The instants at which the connections of one thread are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::schedule::{PlanShare, Schedule, Untaken};
use crate::sys::time::nanos;

/// The arrivals of one thread, as instants of the monotonic clock.
#[derive(Debug)]
pub(crate) struct ThreadArrivals {
    start_ns: u64,
    mode: Mode,
}

/// Measured arrivals still to come in a closed loop that ends by number, over all threads: a thread
/// whose connections are fast takes more of them.
#[derive(Debug, Clone)]
pub(crate) struct ArrivalsLeft(Arc<AtomicU64>);

/// What became of a connection whose slot is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vacated {
    /// It reached the server.
    Served,
    /// It was refused, or failed for want of a port, a descriptor or a route: the next one may fare
    /// the same.
    Refused,
}

#[derive(Debug)]
enum Mode {
    /// Open loop: the schedule is drawn before the run.
    OpenLoop(OpenLoop),
    /// Closed loop: a connection that has ended is replaced at once.
    ClosedLoop(ClosedLoop),
    /// No more arrivals.
    Ended,
}

#[derive(Debug)]
struct OpenLoop {
    schedule: Schedule,
    next: Option<u64>,
    /// What is not begun by this offset is not begun at all.
    deadline_ns: Option<u64>,
    warmup_ns: u64,
}

#[derive(Debug)]
struct ClosedLoop {
    /// Arrivals that were not taken yet: offsets from the start of the run, the earliest on top.
    pending: BinaryHeap<Reverse<u64>>,
    /// There are no arrivals at or after this offset.
    end_ns: Option<u64>,
    left: Option<ArrivalsLeft>,
    warmup_ns: u64,
    connections: u64,
    /// Refusals since a connection was served.
    refused: u64,
}

impl ArrivalsLeft {
    /// Of a run.
    pub(crate) fn of(config: &RunConfig) -> Self {
        let left = match config.stop {
            Stop::Connections(connections) => config.shard.of_total(connections),
            Stop::After(_) => u64::MAX,
        };
        Self(Arc::new(AtomicU64::new(left)))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Takes one, if there is one left.
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl ThreadArrivals {
    /// The arrivals of a thread. [`Self::begin`] must be called before any other method.
    pub(crate) fn new(config: &RunConfig, thread: PlanShare, left: ArrivalsLeft) -> Self {
        let mode = match (Schedule::for_thread(config, thread), config.own_shape()) {
            (Some(schedule), shape) => Mode::OpenLoop(OpenLoop {
                schedule,
                next: None,
                deadline_ns: deadline_ns(config, shape),
                warmup_ns: nanos(config.warmup),
            }),
            (None, Shape::Closed { concurrency }) => {
                let open = concurrency.get().min(config.max_in_flight);
                Mode::ClosedLoop(ClosedLoop::new(config, thread.of_total(open.into()), left))
            }
            (None, _) => Mode::Ended,
        };
        Self { start_ns: 0, mode }
    }

    /// Sets the instant at which the run starts.
    pub(crate) fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
        if let Mode::OpenLoop(open_loop) = &mut self.mode {
            open_loop.next = open_loop.schedule.next();
        }
    }

    /// When the next arrival is due; `None` if there is none, or none until a connection ends.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let offset = match &self.mode {
            Mode::OpenLoop(open_loop) => open_loop.next,
            Mode::ClosedLoop(closed_loop) => closed_loop.next(),
            Mode::Ended => None,
        };
        offset.map(|offset| self.start_ns + offset)
    }

    /// Takes the next arrival if it is due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns().filter(|&at_ns| at_ns <= now_ns)?;
        match &mut self.mode {
            Mode::OpenLoop(open_loop) => open_loop.next = open_loop.schedule.next(),
            Mode::ClosedLoop(closed_loop) => return closed_loop.take().then_some(due_ns),
            Mode::Ended => {}
        }
        Some(due_ns)
    }

    /// A connection has ended and its slot is free: a closed loop replaces it.
    pub(crate) fn vacated(&mut self, now_ns: u64, how: Vacated) {
        if let Mode::ClosedLoop(closed_loop) = &mut self.mode {
            closed_loop.vacated(now_ns.saturating_sub(self.start_ns), how);
        }
    }

    /// Ends a schedule whose time is over although not all of it was begun, and returns how much.
    /// `None` while there is time.
    pub(crate) fn end_if_over(&mut self, now_ns: u64) -> Option<Untaken> {
        let Mode::OpenLoop(OpenLoop { schedule, next, deadline_ns, warmup_ns }) = &self.mode else {
            return None;
        };
        let deadline_ns = deadline_ns.map(|offset| self.start_ns.saturating_add(offset))?;
        let next = next.filter(|_| now_ns >= deadline_ns)?;
        let untaken = schedule.clone().count(*warmup_ns).and(next, *warmup_ns);
        self.end();
        Some(untaken)
    }

    /// Drops all arrivals that were not taken yet.
    pub(crate) fn end(&mut self) {
        self.mode = Mode::Ended;
    }
}

/// How long a run that ends by time may still begin what was planned: 1 % of its length, so that a
/// run that is allowed to be that slow begins everything. A burst may take until the next one.
fn deadline_ns(config: &RunConfig, shape: Shape) -> Option<u64> {
    let Stop::After(duration) = config.stop else { return None };
    let late_ns = (nanos(duration) / 100).clamp(LATE_MIN_NS, LATE_MAX_NS);
    let late_ns = match shape {
        Shape::Burst { every: Some(every), .. } => late_ns.max(nanos(every)),
        Shape::Burst { .. } | Shape::Rate { .. } | Shape::Closed { .. } => late_ns,
    };
    let end_ns = nanos(config.warmup).saturating_add(nanos(duration));
    Some(end_ns.saturating_add(late_ns))
}

impl ClosedLoop {
    fn new(config: &RunConfig, connections: u64, left: ArrivalsLeft) -> Self {
        let warmup_ns = nanos(config.warmup);
        let (end_ns, left) = match config.stop {
            Stop::After(duration) => (Some(warmup_ns.saturating_add(nanos(duration))), None),
            Stop::Connections(_) => (None, Some(left)),
        };
        let pending = (0..connections).map(|_| Reverse(0)).collect();
        Self { pending, end_ns, left, warmup_ns, connections, refused: 0 }
    }

    fn next(&self) -> Option<u64> {
        let &Reverse(offset) = self.pending.peek()?;
        let none_left = self.left.as_ref().is_some_and(|left| !left.any());
        let ended = none_left || self.end_ns.is_some_and(|end_ns| offset >= end_ns);
        (!ended).then_some(offset)
    }

    /// False if another thread has taken the last one meanwhile.
    fn take(&mut self) -> bool {
        let measured = self.pending.pop().is_some_and(|Reverse(at)| at >= self.warmup_ns);
        self.left.as_ref().is_none_or(|left| !measured || left.take())
    }

    /// After a refusal the replacement comes later, the more so the more of them there were in a
    /// row: nobody learns anything from 50,000 refusals a second.
    fn vacated(&mut self, now_ns: u64, how: Vacated) {
        let pause_ns = match how {
            Vacated::Served => {
                self.refused = 0;
                0
            }
            Vacated::Refused => {
                self.refused += 1;
                let rounds = self.refused / self.connections.max(1);
                PAUSE_MIN_NS << rounds.min(PAUSE_DOUBLINGS_MAX)
            }
        };
        self.pending.push(Reverse(now_ns + pause_ns));
    }
}

const LATE_MIN_NS: u64 = 10_000_000;
const LATE_MAX_NS: u64 = 1_000_000_000;
const PAUSE_MIN_NS: u64 = 1_000_000;
/// The longest pause is 128 ms.
const PAUSE_DOUBLINGS_MAX: u64 = 7;

#[cfg(test)]
mod tests;
