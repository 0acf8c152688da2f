//! Accepts timed by a clock that is not comparable with the local one: a server on another host.
//!
//! Every connection bounds the offset between the two clocks: the accept happened after connect
//! was called (t1) and before the first byte arrived (t5). The bounds of all connections intersect
//! in an interval; its middle is the estimate of the offset and half its width the largest error.
//! Delays are kept relative to a provisional offset until the interval is final
//! ([`RelativeDelays`]).

use hdrhistogram::Histogram;

/// The interval that contains the offset between two monotonic clocks, local minus remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEstimate {
    low_ns: i64,
    high_ns: i64,
    contradictions: u64,
}

impl OffsetEstimate {
    /// Without a connection: any offset is possible.
    #[must_use]
    pub const fn new() -> Self {
        Self { low_ns: i64::MIN, high_ns: i64::MAX, contradictions: 0 }
    }

    /// Narrows the interval by one connection: t1 and t5 on the local clock, the accept on the
    /// remote one.
    ///
    /// # Errors
    /// [`Contradiction`] if no offset fits this connection and the previous ones: one of the clocks
    /// was set, or they run at different speeds. The contradiction is counted and the estimate does
    /// not change.
    pub fn narrow(
        &mut self,
        t1_ns: u64,
        accepted_remote_ns: u64,
        t5_ns: u64,
    ) -> Result<(), Contradiction> {
        let low_ns = t1_ns.wrapping_sub(accepted_remote_ns).cast_signed();
        let high_ns = t5_ns.wrapping_sub(accepted_remote_ns).cast_signed();
        self.intersect(low_ns, high_ns)
    }

    /// Narrows the interval by that of another thread for the same clock.
    ///
    /// # Errors
    /// As [`narrow`](Self::narrow).
    pub fn merge(&mut self, other: &Self) -> Result<(), Contradiction> {
        self.contradictions += other.contradictions;
        self.intersect(other.low_ns, other.high_ns)
    }

    /// The estimate of the offset; `None` before the first connection.
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        if *self == (Self { contradictions: self.contradictions, ..Self::new() }) {
            return None;
        }
        let bound_ns = self.low_ns.abs_diff(self.high_ns).div_ceil(2);
        Some(Offset { ns: self.low_ns.midpoint(self.high_ns), bound_ns })
    }

    /// The number of connections that contradicted the previous ones.
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

/// An offset between two clocks, local minus remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The middle of the possible offsets, nanoseconds.
    pub ns: i64,
    /// The largest error in either direction, nanoseconds.
    pub bound_ns: u64,
}

/// No offset between the clocks fits all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's clock contradicts itself by {by_ns} ns")]
pub struct Contradiction {
    /// The distance between the bounds, nanoseconds.
    pub by_ns: u64,
}

/// Delays whose end was timed by the remote clock, kept until the offset is final.
///
/// The first 1,000 are kept as single values. By then the interval of offsets is narrow enough to
/// count the others in a histogram with the highest offset that is still possible: each is too long
/// by the same amount and none is negative. [`correct`](Self::correct) subtracts that amount.
#[derive(Clone, Debug)]
pub struct RelativeDelays {
    /// Remote instant of the accept minus local instant of the begin, wrapping.
    first: Vec<i64>,
    /// The provisional offset of the delays in `rest`.
    base_ns: Option<i64>,
    rest: Histogram<u64>,
}

impl RelativeDelays {
    /// Without delays, with the bounds of `like`; all memory is allocated now.
    #[must_use]
    pub fn new(like: &Histogram<u64>) -> Self {
        Self {
            first: Vec::with_capacity(FIRST_MAX),
            base_ns: None,
            rest: Histogram::new_from(like),
        }
    }

    /// Records the delay from `begun_ns` on the local clock to `accepted_remote_ns` on the remote
    /// one, after `estimate` was narrowed by that connection without a contradiction.
    pub fn record(&mut self, estimate: &OffsetEstimate, begun_ns: u64, accepted_remote_ns: u64) {
        let relative_ns = accepted_remote_ns.wrapping_sub(begun_ns).cast_signed();
        if self.first.len() < FIRST_MAX {
            self.first.push(relative_ns);
            return;
        }
        let base_ns = *self.base_ns.get_or_insert(estimate.high_ns);
        self.rest.saturating_record(delay_ns(relative_ns, base_ns));
    }

    /// The number of delays recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.first.len() as u64 + self.rest.len()
    }

    /// The delays with the final offset.
    #[must_use]
    pub fn correct(&self, offset: Offset) -> CorrectedDelays {
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
        // The surplus reduced the precision of the histogram (three significant digits).
        let bound_ns = offset.bound_ns + surplus_ns / 1_000;
        CorrectedDelays { delays, bound_ns }
    }
}

/// Delays whose begin and end were timed by different clocks.
#[derive(Clone, Debug)]
pub struct CorrectedDelays {
    /// The delays, each with the same unknown error of at most `bound_ns`.
    pub delays: Histogram<u64>,
    /// The largest error of a delay in either direction, nanoseconds.
    pub bound_ns: u64,
}

impl CorrectedDelays {
    /// The delay that `quantile` (0 to 1) of the connections did not exceed; `None` where it is
    /// below the bound, so that the clocks cannot distinguish it from zero.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> Option<u64> {
        let value_ns = self.delays.value_at_quantile(quantile);
        (value_ns >= self.bound_ns).then_some(value_ns)
    }
}

/// The delay with an offset applied; at least 1, the smallest value of the histograms.
fn delay_ns(relative_ns: i64, offset_ns: i64) -> u64 {
    relative_ns.wrapping_add(offset_ns).max(1).unsigned_abs()
}

const FIRST_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 300_000_000_000, 3).unwrap()
    }

    #[test]
    fn without_connections_there_is_no_offset() {
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
    fn the_estimates_of_threads_are_merged() {
        let (mut one, mut two) = (OffsetEstimate::new(), OffsetEstimate::new());
        one.narrow(1_000, 500, 1_100).unwrap();
        two.narrow(1_000, 450, 1_100).unwrap();
        one.merge(&two).unwrap();
        assert_eq!(one.offset(), Some(Offset { ns: 575, bound_ns: 25 }));
        one.merge(&OffsetEstimate::new()).unwrap();
        assert_eq!(one.offset(), Some(Offset { ns: 575, bound_ns: 25 }));
    }

    #[test]
    fn a_quantile_below_the_bound_is_not_given() {
        let mut delays = empty();
        delays.record(100).unwrap();
        delays.record(10_000).unwrap();
        let corrected = CorrectedDelays { delays, bound_ns: 1_000 };
        assert_eq!(corrected.value_at_quantile(0.5), None);
        assert!(corrected.value_at_quantile(1.0).is_some());
    }

    proptest! {
        /// For any offset and any delays, every corrected delay is exact up to the bound and the
        /// histogram's three digits.
        #[test]
        fn corrected_delays_are_exact_up_to_the_bound(
            offset_ns in -1_000_000_000_000_i64..1_000_000_000_000,
            waits in proptest::collection::vec((1..2_000_000_u64, 1..500_000_u64), 1..2_000),
        ) {
            let mut estimate = OffsetEstimate::new();
            let mut relative = RelativeDelays::new(&empty());
            let mut expected = Vec::new();
            for (begun_ns, (delay_ns, back_ns)) in (5_000_000_000_000..).step_by(7).zip(waits) {
                let accepted_ns = begun_ns + delay_ns;
                let remote_ns = accepted_ns.wrapping_sub(offset_ns.cast_unsigned());
                estimate.narrow(begun_ns, remote_ns, accepted_ns + back_ns).unwrap();
                relative.record(&estimate, begun_ns, remote_ns);
                expected.push(delay_ns);
            }
            expected.sort_unstable();
            let offset = estimate.offset().unwrap();
            prop_assert!(offset.ns.abs_diff(offset_ns) <= offset.bound_ns);
            let corrected = relative.correct(offset);
            prop_assert_eq!(corrected.delays.len(), expected.len() as u64);
            let slowest = expected[expected.len() - 1];
            let max = corrected.delays.max();
            prop_assert!(max.abs_diff(slowest) <= corrected.bound_ns + slowest / 500 + 2);
        }
    }
}
