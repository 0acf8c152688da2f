//! When the next connection is wanted.

use std::collections::VecDeque;

use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::schedule::{Schedule, ThreadShare};
use crate::sys::time::nanos;

/// The arrivals of one thread, as instants of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Arrivals {
    start_ns: u64,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Open loop: drawn beforehand.
    Drawn { schedule: Schedule, next: Option<u64> },
    /// Closed loop: each end is the next beginning.
    Chained(Chain),
    /// No more.
    Over,
}

#[derive(Debug)]
struct Chain {
    /// From the start of the run, ascending.
    waiting: VecDeque<u64>,
    /// No arrival at or after this.
    end_ns: Option<u64>,
    /// Measured arrivals still to come.
    left: Option<u64>,
    warmup_ns: u64,
}

impl Arrivals {
    /// The arrivals of a thread that has `slots` connections at most; [`Self::begin`] comes first.
    pub(crate) fn new(config: &RunConfig, thread: ThreadShare, slots: u32) -> Self {
        let mode = match (Schedule::for_thread(config, thread), config.shape) {
            (Some(schedule), _) => Mode::Drawn { schedule, next: None },
            (None, Shape::Closed { concurrency }) => {
                let chains = thread.of_total(concurrency.get().into()).min(slots.into());
                Mode::Chained(Chain::new(config, thread, chains))
            }
            (None, _) => Mode::Over,
        };
        Self { start_ns: 0, mode }
    }

    /// The run starts at this instant.
    pub(crate) fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
        if let Mode::Drawn { schedule, next } = &mut self.mode {
            *next = schedule.next();
        }
    }

    /// When the next one is due; `None` if none is known, now or ever.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let offset = match &self.mode {
            Mode::Drawn { next, .. } => *next,
            Mode::Chained(chain) => chain.next(),
            Mode::Over => None,
        };
        offset.map(|offset| self.start_ns + offset)
    }

    /// Takes the next one if it is due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns().filter(|&at_ns| at_ns <= now_ns)?;
        match &mut self.mode {
            Mode::Drawn { schedule, next } => *next = schedule.next(),
            Mode::Chained(chain) => chain.take(),
            Mode::Over => {}
        }
        Some(due_ns)
    }

    /// A connection is gone; a closed loop replaces it.
    pub(crate) fn vacated(&mut self, now_ns: u64) {
        if let Mode::Chained(chain) = &mut self.mode {
            chain.waiting.push_back(now_ns.saturating_sub(self.start_ns));
        }
    }

    /// No more arrivals.
    pub(crate) fn end(&mut self) {
        self.mode = Mode::Over;
    }
}

impl Chain {
    fn new(config: &RunConfig, thread: ThreadShare, chains: u64) -> Self {
        let warmup_ns = nanos(config.warmup);
        let (end_ns, left) = match config.stop {
            Stop::After(duration) => (Some(warmup_ns.saturating_add(nanos(duration))), None),
            Stop::Connections(n) => (None, Some(thread.of_total(n))),
        };
        Self { waiting: (0..chains).map(|_| 0).collect(), end_ns, left, warmup_ns }
    }

    fn next(&self) -> Option<u64> {
        let &offset = self.waiting.front()?;
        let ended = self.left == Some(0) || self.end_ns.is_some_and(|end_ns| offset >= end_ns);
        (!ended).then_some(offset)
    }

    fn take(&mut self) {
        let measured = self.waiting.pop_front().is_some_and(|offset| offset >= self.warmup_ns);
        if let Some(left) = self.left.as_mut().filter(|_| measured) {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    const ALONE: ThreadShare = ThreadShare { index: 0, of: 1 };

    fn arrivals(args: &str) -> Arrivals {
        let mut arrivals = Arrivals::new(&config(args), ALONE, 100);
        arrivals.begin(1_000);
        arrivals
    }

    #[test]
    fn a_drawn_plan_is_taken_as_it_falls_due() {
        let mut arrivals = arrivals("--rate 1m --connections 2");
        assert_eq!((arrivals.take_due(999), arrivals.next_ns()), (None, Some(1_000)));
        assert_eq!(arrivals.take_due(5_000), Some(1_000));
        arrivals.vacated(5_000);
        assert_eq!(arrivals.take_due(5_000), Some(2_000));
        assert_eq!(arrivals.next_ns(), None);
    }

    #[test]
    fn a_closed_loop_goes_on_where_a_connection_ended() {
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
    fn a_closed_loop_ends_with_its_time_and_counts_no_warm_up() {
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
    fn an_end_is_an_end() {
        let mut arrivals = arrivals("--concurrency 2");
        arrivals.end();
        arrivals.vacated(2_000);
        assert_eq!(arrivals.take_due(u64::MAX), None);
    }
}
