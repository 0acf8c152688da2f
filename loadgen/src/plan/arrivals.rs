//! The instants at which the connections of one thread are due.

use std::collections::VecDeque;

use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::schedule::{Schedule, ThreadShare};
use crate::sys::time::nanos;

/// The arrivals of one thread, as instants of the monotonic clock.
#[derive(Debug)]
pub(crate) struct ThreadArrivals {
    start_ns: u64,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Open loop: the schedule is drawn before the run.
    OpenLoop { schedule: Schedule, next: Option<u64> },
    /// Closed loop: a connection that has ended is replaced at once.
    ClosedLoop(ClosedLoop),
    /// No more arrivals.
    Ended,
}

#[derive(Debug)]
struct ClosedLoop {
    /// Arrivals that were not taken yet: offsets from the start of the run, ascending.
    pending: VecDeque<u64>,
    /// There are no arrivals at or after this offset.
    end_ns: Option<u64>,
    /// Measured arrivals still to come.
    left: Option<u64>,
    warmup_ns: u64,
}

impl ThreadArrivals {
    /// The arrivals of a thread with at most `slots` connections. [`Self::begin`] must be called
    /// before any other method.
    pub(crate) fn new(config: &RunConfig, thread: ThreadShare, slots: u32) -> Self {
        let mode = match (Schedule::for_thread(config, thread), config.shape) {
            (Some(schedule), _) => Mode::OpenLoop { schedule, next: None },
            (None, Shape::Closed { concurrency }) => {
                let connections = thread.of_total(concurrency.get().into()).min(slots.into());
                Mode::ClosedLoop(ClosedLoop::new(config, thread, connections))
            }
            (None, _) => Mode::Ended,
        };
        Self { start_ns: 0, mode }
    }

    /// Sets the instant at which the run starts.
    pub(crate) fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
        if let Mode::OpenLoop { schedule, next } = &mut self.mode {
            *next = schedule.next();
        }
    }

    /// When the next arrival is due; `None` if there is none, or none until a connection ends.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let offset = match &self.mode {
            Mode::OpenLoop { next, .. } => *next,
            Mode::ClosedLoop(closed_loop) => closed_loop.next(),
            Mode::Ended => None,
        };
        offset.map(|offset| self.start_ns + offset)
    }

    /// Takes the next arrival if it is due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns().filter(|&at_ns| at_ns <= now_ns)?;
        match &mut self.mode {
            Mode::OpenLoop { schedule, next } => *next = schedule.next(),
            Mode::ClosedLoop(closed_loop) => closed_loop.take(),
            Mode::Ended => {}
        }
        Some(due_ns)
    }

    /// A connection has ended and its slot is free: a closed loop replaces it.
    pub(crate) fn vacated(&mut self, now_ns: u64) {
        if let Mode::ClosedLoop(closed_loop) = &mut self.mode {
            closed_loop.pending.push_back(now_ns.saturating_sub(self.start_ns));
        }
    }

    /// Drops all arrivals that were not taken yet.
    pub(crate) fn end(&mut self) {
        self.mode = Mode::Ended;
    }
}

impl ClosedLoop {
    fn new(config: &RunConfig, thread: ThreadShare, connections: u64) -> Self {
        let warmup_ns = nanos(config.warmup);
        let (end_ns, left) = match config.stop {
            Stop::After(duration) => (Some(warmup_ns.saturating_add(nanos(duration))), None),
            Stop::Connections(n) => (None, Some(thread.of_total(n))),
        };
        Self { pending: (0..connections).map(|_| 0).collect(), end_ns, left, warmup_ns }
    }

    fn next(&self) -> Option<u64> {
        let &offset = self.pending.front()?;
        let ended = self.left == Some(0) || self.end_ns.is_some_and(|end_ns| offset >= end_ns);
        (!ended).then_some(offset)
    }

    fn take(&mut self) {
        let measured = self.pending.pop_front().is_some_and(|offset| offset >= self.warmup_ns);
        if let Some(left) = self.left.as_mut().filter(|_| measured) {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    const ONLY_THREAD: ThreadShare = ThreadShare { index: 0, of: 1 };

    fn arrivals(args: &str) -> ThreadArrivals {
        let mut arrivals = ThreadArrivals::new(&config(args), ONLY_THREAD, 100);
        arrivals.begin(1_000);
        arrivals
    }

    #[test]
    fn an_open_loop_gives_each_arrival_once_it_is_due() {
        let mut arrivals = arrivals("--rate 1m --connections 2");
        assert_eq!((arrivals.take_due(999), arrivals.next_ns()), (None, Some(1_000)));
        assert_eq!(arrivals.take_due(5_000), Some(1_000));
        arrivals.vacated(5_000);
        assert_eq!(arrivals.take_due(5_000), Some(2_000));
        assert_eq!(arrivals.next_ns(), None);
    }

    #[test]
    fn a_closed_loop_replaces_a_connection_at_the_instant_it_ended() {
        let mut arrivals = arrivals("--concurrency 2 --connections 3");
        assert_eq!(
            (arrivals.take_due(1_000), arrivals.take_due(1_000)),
            (Some(1_000), Some(1_000))
        );
        assert_eq!(arrivals.next_ns(), None);
        arrivals.vacated(1_700);
        assert_eq!(arrivals.take_due(1_800), Some(1_700));
        arrivals.vacated(1_900);
        assert_eq!(arrivals.next_ns(), None);
    }

    #[test]
    fn a_closed_loop_ends_by_time_or_by_measured_connections() {
        let mut timed = arrivals("--concurrency 1 --duration 1us --warmup 1us");
        assert_eq!(timed.take_due(1_000), Some(1_000));
        timed.vacated(2_999);
        assert_eq!(timed.take_due(2_999), Some(2_999));
        timed.vacated(3_000);
        assert_eq!(timed.next_ns(), None);
        let mut counted = arrivals("--concurrency 1 --connections 1 --warmup 1us");
        for at_ns in [1_000, 1_500, 2_000] {
            assert_eq!(counted.take_due(at_ns), Some(at_ns));
            counted.vacated(at_ns + 500);
        }
        assert_eq!(counted.next_ns(), None);
    }

    #[test]
    fn there_are_no_arrivals_after_the_end() {
        let mut arrivals = arrivals("--concurrency 2");
        arrivals.end();
        arrivals.vacated(2_000);
        assert_eq!(arrivals.take_due(u64::MAX), None);
    }
}
