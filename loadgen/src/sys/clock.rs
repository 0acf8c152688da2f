//! Accepts timed by a clock that does not compare with ours: a server on another host.
//!
//! Every connection bounds the offset between the two clocks: the accept happened after connect
//! was called (t1) and before the first byte arrived (t5). All connections together leave an
//! interval; its middle is the offset and half its width is how wrong that may be. Delays are kept
//! relative to a provisional offset until the interval is final ([`RelativeDelays`]).

use hdrhistogram::Histogram;

/// What is known about the offset between our monotonic clock and one other, ours minus theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEstimate {
    low_ns: i64,
    high_ns: i64,
    contradictions: u64,
}

impl OffsetEstimate {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { low_ns: i64::MIN, high_ns: i64::MAX, contradictions: 0 }
    }

    /// Learns from one connection: its t1 and t5 on our clock, its accept on theirs.
    ///
    /// # Errors
    /// [`Contradiction`] if no offset fits this connection and those before: one of the clocks
    /// was changed, or they run at different speeds. It is counted, and the estimate stays.
    pub fn narrow(
        &mut self,
        t1_ns: u64,
        accepted_there_ns: u64,
        t5_ns: u64,
    ) -> Result<(), Contradiction> {
        let low_ns = t1_ns.wrapping_sub(accepted_there_ns).cast_signed();
        let high_ns = t5_ns.wrapping_sub(accepted_there_ns).cast_signed();
        self.intersect(low_ns, high_ns)
    }

    /// Learns what another thread learned about the same clock.
    ///
    /// # Errors
    /// As [`narrow`](Self::narrow).
    pub fn merge(&mut self, other: &Self) -> Result<(), Contradiction> {
        self.contradictions += other.contradictions;
        self.intersect(other.low_ns, other.high_ns)
    }

    /// The offset as far as it is known; `None` before the first connection.
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        if *self == (Self { contradictions: self.contradictions, ..Self::new() }) {
            return None;
        }
        let bound_ns = self.low_ns.abs_diff(self.high_ns).div_ceil(2);
        Some(Offset { ns: self.low_ns.midpoint(self.high_ns), bound_ns })
    }

    /// How many connections contradicted the others.
    #[must_use]
    pub const fn contradictions(&self) -> u64 {
        self.contradictions
    }

    fn intersect(&mut self, low_ns: i64, high_ns: i64) -> Result<(), Contradiction> {
        let (low_ns, high_ns) = (self.low_ns.max(low_ns), self.high_ns.min(high_ns));
        if low_ns > high_ns {
            self.contradictions += 1;
            return Err(Contradiction { by_ns: low_ns.abs_diff(high_ns) });
        }
        (self.low_ns, self.high_ns) = (low_ns, high_ns);
        Ok(())
    }
}

impl Default for OffsetEstimate {
    fn default() -> Self {
        Self::new()
    }
}

/// An offset between two clocks, ours minus theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The middle of what is possible, nanoseconds.
    pub ns: i64,
    /// How far it may be off either way, nanoseconds.
    pub bound_ns: u64,
}

/// No offset between the clocks fits all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's clock contradicts itself by {by_ns} ns")]
pub struct Contradiction {
    /// By how much the bounds miss each other, nanoseconds.
    pub by_ns: u64,
}

/// Delays whose end was timed by the other clock, kept until the offset is known.
///
/// The first thousand are kept as they are. By then the offset is known well enough to count the
/// rest in a histogram, all too long by the same amount: they are taken against the highest offset
/// still possible, so none is negative. [`settle`](Self::settle) moves it back by that amount.
#[derive(Clone, Debug)]
pub struct RelativeDelays {
    /// `accepted there - begun here`, wrapping.
    first: Vec<i64>,
    /// The offset that the delays in `rest` were taken with.
    base_ns: Option<i64>,
    rest: Histogram<u64>,
}

impl RelativeDelays {
    /// Without a delay, with the bounds of `like`; all memory is taken now.
    #[must_use]
    pub fn new(like: &Histogram<u64>) -> Self {
        Self {
            first: Vec::with_capacity(KEPT_FIRST),
            base_ns: None,
            rest: Histogram::new_from(like),
        }
    }

    /// Records the delay from `begun_ns` on our clock to `accepted_there_ns` on theirs, once
    /// `estimate` has learned from that connection without a contradiction.
    pub fn record(&mut self, estimate: &OffsetEstimate, begun_ns: u64, accepted_there_ns: u64) {
        let relative_ns = accepted_there_ns.wrapping_sub(begun_ns).cast_signed();
        if self.first.len() < KEPT_FIRST {
            self.first.push(relative_ns);
            return;
        }
        let base_ns = *self.base_ns.get_or_insert(estimate.high_ns);
        self.rest.saturating_record(delay_ns(relative_ns, base_ns));
    }

    /// How many delays were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.first.len() as u64 + self.rest.len()
    }

    /// The delays, with the final offset of their clock.
    #[must_use]
    pub fn settle(&self, offset: Offset) -> SettledDelays {
        let mut delays = Histogram::new_from(&self.rest);
        for &relative_ns in &self.first {
            delays.saturating_record(delay_ns(relative_ns, offset.ns));
        }
        let surplus_ns =
            self.base_ns.map_or(0, |base_ns| delay_ns(base_ns, offset.ns.wrapping_neg()));
        for step in self.rest.iter_recorded() {
            let recorded_ns = self.rest.median_equivalent(step.value_iterated_to());
            let delay_ns = recorded_ns.saturating_sub(surplus_ns).max(1);
            delays.saturating_record_n(delay_ns, step.count_at_value());
        }
        // What the surplus cost in histogram precision (three significant digits).
        let bound_ns = offset.bound_ns + surplus_ns / 1_000;
        SettledDelays { delays, bound_ns }
    }
}

/// Delays that were taken across two clocks.
#[derive(Clone, Debug)]
pub struct SettledDelays {
    /// The delays, each off by the same unknown amount of at most `bound_ns`.
    pub delays: Histogram<u64>,
    /// How far every delay may be off either way, nanoseconds.
    pub bound_ns: u64,
}

impl SettledDelays {
    /// The delay that `quantile` (0 to 1) of the connections did not exceed; `None` where it is
    /// finer than the bound, so that the clocks cannot tell it from none at all.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> Option<u64> {
        let value_ns = self.delays.value_at_quantile(quantile);
        (value_ns >= self.bound_ns).then_some(value_ns)
    }
}

/// At least 1, the least that a histogram can hold.
fn delay_ns(relative_ns: i64, offset_ns: i64) -> u64 {
    relative_ns.wrapping_add(offset_ns).max(1).unsigned_abs()
}

const KEPT_FIRST: usize = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 300_000_000_000, 3).unwrap()
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(OffsetEstimate::new().offset(), None);
    }

    #[test]
    fn connections_narrow_the_offset() {
        let mut estimate = OffsetEstimate::new();
        estimate.narrow(1_000, 500, 1_100).unwrap();
        assert_eq!(estimate.offset(), Some(Offset { ns: 550, bound_ns: 50 }));
        estimate.narrow(2_000, 1_420, 2_100).unwrap();
        assert_eq!(estimate.offset(), Some(Offset { ns: 590, bound_ns: 10 }));
    }

    #[test]
    fn contradictions_are_counted_and_change_nothing() {
        let mut estimate = OffsetEstimate::new();
        estimate.narrow(1_000, 500, 1_100).unwrap();
        let before = estimate.offset();
        assert_eq!(estimate.narrow(1_000, 300, 1_050), Err(Contradiction { by_ns: 100 }));
        assert_eq!((estimate.offset(), estimate.contradictions()), (before, 1));
    }

    #[test]
    fn threads_put_together_what_they_know() {
        let (mut one, mut two) = (OffsetEstimate::new(), OffsetEstimate::new());
        one.narrow(1_000, 500, 1_100).unwrap();
        two.narrow(1_000, 450, 1_100).unwrap();
        one.merge(&two).unwrap();
        assert_eq!(one.offset(), Some(Offset { ns: 575, bound_ns: 25 }));
        one.merge(&OffsetEstimate::new()).unwrap();
        assert_eq!(one.offset(), Some(Offset { ns: 575, bound_ns: 25 }));
    }

    #[test]
    fn a_delay_finer_than_the_bound_is_refused() {
        let mut delays = empty();
        delays.record(100).unwrap();
        delays.record(10_000).unwrap();
        let settled = SettledDelays { delays, bound_ns: 1_000 };
        assert_eq!(settled.value_at_quantile(0.5), None);
        assert!(settled.value_at_quantile(1.0).is_some());
    }

    proptest! {
        /// Whatever the offset, and however long each way took, every delay comes out right up to
        /// the bound and the histogram's three digits.
        #[test]
        fn delays_come_out_within_the_bound(
            offset_ns in -1_000_000_000_000_i64..1_000_000_000_000,
            waits in proptest::collection::vec((1..2_000_000_u64, 1..500_000_u64), 1..2_000),
        ) {
            let mut estimate = OffsetEstimate::new();
            let mut relative = RelativeDelays::new(&empty());
            let mut expected = Vec::new();
            for (begun_ns, (delay_ns, back_ns)) in (5_000_000_000_000..).step_by(7).zip(waits) {
                let accepted_ns = begun_ns + delay_ns;
                let there_ns = accepted_ns.wrapping_sub(offset_ns.cast_unsigned());
                estimate.narrow(begun_ns, there_ns, accepted_ns + back_ns).unwrap();
                relative.record(&estimate, begun_ns, there_ns);
                expected.push(delay_ns);
            }
            expected.sort_unstable();
            let offset = estimate.offset().unwrap();
            prop_assert!(offset.ns.abs_diff(offset_ns) <= offset.bound_ns);
            let settled = relative.settle(offset);
            prop_assert_eq!(settled.delays.len(), expected.len() as u64);
            let slowest = expected[expected.len() - 1];
            let found = settled.delays.max();
            prop_assert!(found.abs_diff(slowest) <= settled.bound_ns + slowest / 500 + 2);
        }
    }
}
