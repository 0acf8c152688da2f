//! The offset between the clock of a server on another machine and this one, bounded by the
//! connections themselves.
//!
//! An accept lies between the call of connect and the arrival of the first byte, which the server
//! sends after it. So each stamp bounds the offset, server minus client, at the instant of its
//! accept: it is at least `accepted - arrived` and at most `accepted - called`. No path has to be
//! symmetric, and no clock has to be set. What all connections leave is kept in one pair of bounds,
//! which widens with time by the rate at which two clocks may drift apart.
//!
//! The clock is `CLOCK_MONOTONIC` of both sides: it is never set, only slewed, whereas
//! `CLOCK_REALTIME` jumps when somebody or a time service sets it. `CLOCK_BOOTTIME` would not be
//! steadier, since a suspended server accepts nothing.

use super::observation::Bracket;
use crate::model::server::Drift;

/// By how much two clocks may drift apart, nanoseconds in a second (100 ppm). The crystals of two
/// machines differ by less, and so does what a time service slews unless it corrects a large error.
/// Clocks that drift faster contradict the bounds sooner or later.
pub const MAX_DRIFT_PPB: u64 = 100_000;

/// The instants of one connection of which the server sent a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampedAccept {
    /// Immediately before connect, by the client's clock.
    pub called_ns: u64,
    /// The accept, by the server's clock.
    pub accepted_ns: u64,
    /// When the stamp was here, by the client's clock.
    pub arrived_ns: u64,
}

/// Where the offset lies at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetBounds {
    /// The instant, by the server's clock.
    at_ns: u64,
    low_ns: i64,
    high_ns: i64,
}

/// No offset agrees with all connections: a clock was set or drifts faster than
/// [`MAX_DRIFT_PPB`], or stamps came from two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clocks contradict each other by {by_ns} ns")]
pub struct ClockContradiction {
    /// By how much more than drift explains.
    pub by_ns: u64,
}

impl StampedAccept {
    fn bounds(self) -> OffsetBounds {
        let since = |earlier_ns: u64| self.accepted_ns.wrapping_sub(earlier_ns).cast_signed();
        OffsetBounds {
            at_ns: self.accepted_ns,
            low_ns: since(self.arrived_ns),
            high_ns: since(self.called_ns),
        }
    }
}

impl OffsetBounds {
    /// What one connection says.
    #[must_use]
    pub fn of(first: StampedAccept) -> Self {
        first.bounds()
    }

    /// The instant at which they hold, by the server's clock.
    #[must_use]
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// Server minus client: the middle.
    #[must_use]
    pub fn offset_ns(&self) -> i64 {
        self.low_ns.midpoint(self.high_ns)
    }

    /// The largest error of the middle.
    #[must_use]
    pub fn half_width_ns(&self) -> u64 {
        self.low_ns.abs_diff(self.high_ns).div_ceil(2)
    }

    /// How fast the server's clock was since `before`; `None` where the bounds exclude nothing, and
    /// where they exclude every drift that is allowed: then a clock was set in between.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate is told in three digits")]
    pub fn drift_since(&self, before: Self) -> Option<Drift> {
        let apart_ns = self.at_ns.saturating_sub(before.at_ns);
        let unsure_ns = self.half_width_ns().saturating_add(before.half_width_ns());
        let allowed_ns = u128::from(apart_ns) * u128::from(MAX_DRIFT_PPB) / 1_000_000_000;
        if u128::from(unsure_ns) >= allowed_ns {
            return None;
        }
        let gained_ns = self.offset_ns().saturating_sub(before.offset_ns());
        if u128::from(gained_ns.unsigned_abs()) > allowed_ns + u128::from(unsure_ns) {
            return None;
        }
        let per_million = |ns: f64| ns / apart_ns as f64 * 1e6;
        Some(Drift { ppm: per_million(gained_ns as f64), bound_ppm: per_million(unsure_ns as f64) })
    }

    /// Adds what a connection says, and returns where its accept lies by the client's clock. That
    /// is never before its connect or after its stamp.
    ///
    /// # Errors
    /// [`ClockContradiction`]; what was known before is forgotten.
    pub fn narrow(&mut self, accept: StampedAccept) -> Result<Bracket, ClockContradiction> {
        let alone = accept.bounds();
        let there = self.projected(alone.at_ns).intersected(alone);
        if there.low_ns > there.high_ns {
            *self = alone;
            return Err(ClockContradiction { by_ns: there.low_ns.abs_diff(there.high_ns) });
        }
        // Threads and workers deliver stamps out of order: what is known stays where it is newest.
        let newest_ns = self.at_ns.max(alone.at_ns);
        *self = self.projected(newest_ns).intersected(there.projected(newest_ns));
        Ok(Bracket {
            earliest_ns: accept.called_ns + alone.high_ns.abs_diff(there.high_ns),
            latest_ns: accept.arrived_ns - there.low_ns.abs_diff(alone.low_ns),
        })
    }

    /// The bounds at another instant.
    fn projected(self, at_ns: u64) -> Self {
        let apart = u128::from(at_ns.abs_diff(self.at_ns)) * u128::from(MAX_DRIFT_PPB);
        let drift = i64::try_from(apart.div_ceil(1_000_000_000)).unwrap_or(i64::MAX);
        Self {
            at_ns,
            low_ns: self.low_ns.saturating_sub(drift),
            high_ns: self.high_ns.saturating_add(drift),
        }
    }

    fn intersected(self, other: Self) -> Self {
        Self {
            low_ns: self.low_ns.max(other.low_ns),
            high_ns: self.high_ns.min(other.high_ns),
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
