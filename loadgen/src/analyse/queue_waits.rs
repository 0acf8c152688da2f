//! How long connections waited in an accept queue, from samples of its length.
//!
//! The queue is first in, first out. Between two samples some connections arrived and some left,
//! and those that left are the oldest: with the arrivals known, every wait follows to within the
//! time between samples. Where they are not known, a rise counts as arrivals and a fall as accepts,
//! and what arrives and leaves between two samples stays unseen. The mean needs no single wait:
//! it is the queue's length over time divided by the arrivals (Little's law).
//!
//! Where the kernel told the instant of each arrival, only the accepts lie between samples.

use std::collections::VecDeque;

/// A wait that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It was shorter than the resolution.
    Below,
    /// Its length, nanoseconds.
    Took(u64),
}

/// What is known of the connections that arrived since the last sample.
#[derive(Clone, Copy, Debug)]
pub enum NewArrivals<'a> {
    /// Nothing but what the length shows.
    Unknown,
    /// How many there were.
    Counted(u64),
    /// When each arrived, ascending, and how many more there were.
    Timed(&'a [u64], u64),
}

impl NewArrivals<'_> {
    fn count(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Counted(count) => Some(count),
            Self::Timed(instants, more) => Some(instants.len() as u64 + more),
        }
    }
}

/// One accept queue, sample by sample. Its memory is bounded by the longest queue.
#[derive(Debug)]
pub struct QueueWaits {
    interval_ns: u64,
    resolution_ns: u64,
    /// Those that wait, oldest first.
    waiting: VecDeque<Arrivals>,
    last: Option<Sample>,
    /// Arrivals that the length showed before the counter did.
    ahead: u64,
    arrived: u64,
    left: u64,
    depth_time: f64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    depth: u32,
}

/// Connections that arrived between two samples.
#[derive(Clone, Copy, Debug)]
struct Arrivals {
    after_ns: u64,
    seen_ns: u64,
    /// How many; of those, the first have left.
    count: u64,
    gone: u64,
    /// They were there at the first sample: when they came is not known.
    since_ever: bool,
}

impl Arrivals {
    /// When the next of them to leave arrived: they are spread evenly between the samples.
    fn next_ns(&self) -> u64 {
        spread(self.after_ns, self.seen_ns, self.gone, self.count)
    }
}

/// The instant of number `index` of `count`, spread evenly.
fn spread(from_ns: u64, to_ns: u64, index: u64, count: u64) -> u64 {
    let span = u128::from(to_ns.saturating_sub(from_ns));
    let share = span * u128::from(2 * index + 1) / u128::from(2 * count.max(1));
    from_ns + u64::try_from(share).unwrap_or(0)
}

impl QueueWaits {
    /// Of a queue that is sampled every `interval_ns` on average.
    #[must_use]
    pub fn new(interval_ns: u64) -> Self {
        Self::with_resolution(interval_ns, Self::resolution_ns(interval_ns))
    }

    /// Of a queue whose arrivals are timed: waits are told to within one interval.
    #[must_use]
    pub fn timed(interval_ns: u64) -> Self {
        Self::with_resolution(interval_ns, interval_ns)
    }

    fn with_resolution(interval_ns: u64, resolution_ns: u64) -> Self {
        Self {
            interval_ns,
            resolution_ns,
            waiting: VecDeque::with_capacity(1024),
            last: None,
            ahead: 0,
            arrived: 0,
            left: 0,
            depth_time: 0.0,
        }
    }

    /// Waits below this cannot be told from each other: one that a single sample saw may have
    /// lasted from nothing to two intervals.
    #[must_use]
    pub const fn resolution_ns(interval_ns: u64) -> u64 {
        2 * interval_ns
    }

    /// Adds a sample: the length of the queue at `at_ns`, and what is known of those that arrived
    /// since the last one. Passes the waits that ended to `ended`, each with how many there were.
    pub fn sample(
        &mut self,
        at_ns: u64,
        depth: u32,
        new: NewArrivals<'_>,
        mut ended: impl FnMut(Wait, u64),
    ) {
        let Some(before) = self.last.replace(Sample { at_ns, depth }) else {
            self.push(at_ns, at_ns, depth.into(), true);
            return;
        };
        let gap = at_ns.saturating_sub(before.at_ns) as f64;
        self.depth_time += f64::midpoint(before.depth.into(), depth.into()) * gap;
        let rise = u64::from(depth.saturating_sub(before.depth));
        let arrived = new.count().map_or(rise, |counted| self.settled(counted, rise));
        let left = u64::from(before.depth) + arrived - u64::from(depth);
        let queued = left.min(before.depth.into());
        for index in 0..queued {
            self.leave(before.at_ns, spread(before.at_ns, at_ns, index, queued), at_ns, &mut ended);
        }
        let passed = left - queued;
        self.arrived += arrived;
        self.left += left;
        // No sample saw them: also of a late one, in which servers accept at once as a rule.
        if passed > 0 {
            ended(Wait::Below, passed);
        }
        match new {
            NewArrivals::Timed(instants, _) => {
                self.push_timed((before.at_ns, at_ns), instants, arrived, passed);
            }
            _ => self.push(before.at_ns, at_ns, arrived - passed, false),
        }
    }

    /// Queues the last of those that arrived; the first `passed` of them have left already.
    fn push_timed(
        &mut self,
        (after_ns, seen_ns): (u64, u64),
        instants: &[u64],
        arrived: u64,
        passed: u64,
    ) {
        // Those that the length showed before they were told are queued already.
        let told = usize::try_from(arrived).map_or(instants.len(), |n| n.min(instants.len()));
        let instants = &instants[instants.len() - told..];
        let gone = usize::try_from(passed).map_or(told, |n| n.min(told));
        for at_ns in &instants[gone..] {
            self.push(*at_ns, *at_ns, 1, false);
        }
        let untimed_gone = passed - gone as u64;
        self.push(after_ns, seen_ns, arrived - told as u64 - untimed_gone, false);
    }

    /// The counter and the length are not read at one instant: what one shows early, the other
    /// shows late.
    fn settled(&mut self, counted: u64, rise: u64) -> u64 {
        let owed = self.ahead.min(counted);
        self.ahead -= owed;
        let arrived = counted - owed;
        self.ahead += rise.saturating_sub(arrived);
        arrived.max(rise)
    }

    fn push(&mut self, after_ns: u64, seen_ns: u64, count: u64, since_ever: bool) {
        if count > 0 {
            let batch = Arrivals { after_ns, seen_ns, count, gone: 0, since_ever };
            self.waiting.push_back(batch);
        }
    }

    fn leave(
        &mut self,
        last_seen_ns: u64,
        left_ns: u64,
        sampled_ns: u64,
        ended: &mut impl FnMut(Wait, u64),
    ) {
        let Some(oldest) = self.waiting.front_mut() else { return };
        let batch = *oldest;
        oldest.gone += 1;
        if oldest.gone == oldest.count {
            self.waiting.pop_front();
        }
        if batch.since_ever {
            return;
        }
        let took_ns = left_ns.saturating_sub(batch.next_ns());
        let seen_once = batch.seen_ns == last_seen_ns;
        // A sample that came late leaves more room than two intervals.
        let in_time = sampled_ns.saturating_sub(batch.after_ns) <= 3 * self.interval_ns;
        let below = took_ns < self.resolution_ns || (seen_once && in_time);
        ended(if below { Wait::Below } else { Wait::Took(took_ns) }, 1);
    }

    /// Forgets those that wait: the listener was closed, or not looked at for a while.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.last = None;
        self.ahead = 0;
    }

    /// How long the oldest has waited at `now_ns`; `None` where nobody waits.
    #[must_use]
    pub fn longest_wait_ns(&self, now_ns: u64) -> Option<u64> {
        self.waiting.front().map(|oldest| now_ns.saturating_sub(oldest.next_ns()))
    }

    /// Arrivals and accepts since the first sample.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.arrived, self.left)
    }

    /// The queue's length over time: connections × nanoseconds.
    #[must_use]
    pub const fn depth_time(&self) -> f64 {
        self.depth_time
    }
}

/// Mean wait by Little's law; `None` without arrivals.
#[must_use]
pub fn mean_wait_ns(depth_time: f64, arrivals: u64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "times are not negative")]
    (arrivals > 0).then(|| (depth_time / arrivals as f64).round() as u64)
}

/// For how many waits one stands that was met by an inspection at a random instant, if `exposure`
/// inspections are expected during its length: the reciprocal of the chance of being met.
#[must_use]
pub fn inspection_weight(exposure: f64) -> f64 {
    // What was met was exposed for a moment at least.
    const LEAST: f64 = 1e-3;
    -1.0 / (-exposure.max(LEAST)).exp_m1()
}

#[cfg(test)]
mod tests;
