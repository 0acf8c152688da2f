//! Giving way: a thread that was preempted while it was spinning sleeps instead for a while.
//!
//! The scheduler runs a thread that has slept as soon as it wakes; one that has used up its time
//! slice waits for the others, for milliseconds.

/// A spinning thread that finds this much time between two readings of the clock was preempted, in
/// nanoseconds. Interrupts and a virtual machine's exits take less.
pub const PREEMPTED_NS: u64 = 500_000;
/// After a preemption the thread does not spin for this long, in nanoseconds.
const BACKOFF_NS: u64 = 400_000_000;
/// The back-off doubles with each further preemption, up to this.
const BACKOFF_MAX_NS: u64 = 64 * BACKOFF_NS;
/// Spinning may go on for this long after a back-off without a preemption before the next one
/// counts as the first, in nanoseconds.
const FORGOTTEN_NS: u64 = 10_000_000_000;

/// Whether others want the CPU of a thread.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    backoff_ns: u64,
    until: u64,
}

impl Contention {
    /// Records a preemption while spinning.
    pub fn record_preemption(&mut self, now: u64) {
        let is_repeated = self.until > 0 && now < self.until.saturating_add(FORGOTTEN_NS);
        let next = if is_repeated { self.backoff_ns * 2 } else { BACKOFF_NS };
        self.backoff_ns = next.min(BACKOFF_MAX_NS);
        self.until = now + self.backoff_ns;
    }

    /// Whether the thread gives way at `now`.
    #[must_use]
    pub const fn is_backing_off(&self, now: u64) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_while_contention_lasts_and_is_forgotten_after_it() {
        let mut contention = Contention::default();
        let mut now = 5;
        for round in 0..10 {
            assert!(!contention.is_backing_off(now));
            contention.record_preemption(now);
            let length = (BACKOFF_NS << round).min(BACKOFF_MAX_NS);
            assert!(contention.is_backing_off(now + length - 1), "round {round}");
            now += length;
        }
        now += FORGOTTEN_NS;
        contention.record_preemption(now);
        assert!(!contention.is_backing_off(now + BACKOFF_NS));
    }
}
