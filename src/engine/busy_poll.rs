//! How long a worker spins before it sleeps.
//!
//! A sleeping thread takes about 35 µs to wake on a virtual machine, several times what accepting a
//! connection costs. Spinning avoids the wake-up and costs the CPU instead. `auto` spins only while
//! the next completion can be expected within [`SPIN_MAX_NS`].

use crate::config::BusyPoll;

/// `auto` spins at most this long, and only while the average wait is shorter.
const SPIN_MAX_NS: u64 = 5_000_000;
/// A single wait counts as at most this much, so that one pause does not end spinning.
const WAIT_CAP_NS: u64 = 4 * SPIN_MAX_NS;
/// The average is over this many waits, as a power of two.
const AVERAGE_SHIFT: u32 = 3;

/// A spinning thread that finds this much time between two readings of the clock was preempted:
/// another thread needs the CPU.
pub(super) const PREEMPTED_NS: u64 = 500_000;
/// After a preemption `auto` sleeps instead of spinning for this long. The scheduler runs a thread
/// that has slept as soon as it wakes; one that has used up its time slice waits for the others.
const BACKOFF_NS: u64 = 50_000_000;
/// The back-off doubles with each further preemption, up to this.
const BACKOFF_MAX_NS: u64 = 64 * BACKOFF_NS;
/// Spinning for this long without a preemption resets the back-off.
const BACKOFF_RESET_NS: u64 = 1_000_000_000;

/// Predicts the next wait from an exponential moving average of the recent ones.
#[derive(Debug)]
pub(super) struct BusyPollPolicy {
    mode: BusyPoll,
    average_wait_ns: u64,
    backoff_ns: u64,
    backoff_until: u64,
}

impl BusyPollPolicy {
    pub(super) const fn new(mode: BusyPoll) -> Self {
        Self { mode, average_wait_ns: WAIT_CAP_NS, backoff_ns: BACKOFF_NS, backoff_until: 0 }
    }

    /// How long to spin from `now` on before sleeping, in nanoseconds.
    pub(super) fn spin_ns(&self, now: u64) -> u64 {
        let pays_off = self.average_wait_ns < SPIN_MAX_NS && now >= self.backoff_until;
        match self.mode {
            BusyPoll::Off => 0,
            BusyPoll::For(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            BusyPoll::Auto if pays_off => SPIN_MAX_NS,
            BusyPoll::Auto => 0,
        }
    }

    /// Records that this thread was preempted while it was spinning.
    pub(super) fn record_preemption(&mut self, now: u64) {
        let is_repeated =
            now < self.backoff_until.saturating_add(BACKOFF_RESET_NS) && self.backoff_until > 0;
        self.backoff_ns =
            if is_repeated { (self.backoff_ns * 2).min(BACKOFF_MAX_NS) } else { BACKOFF_NS };
        self.backoff_until = now + self.backoff_ns;
    }

    /// Records how long the last wait was.
    pub(super) fn record_wait(&mut self, ns: u64) {
        let old = self.average_wait_ns >> AVERAGE_SHIFT;
        let new = ns.min(WAIT_CAP_NS) >> AVERAGE_SHIFT;
        self.average_wait_ns = self.average_wait_ns - old + new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_after(waits_ns: &[u64]) -> BusyPollPolicy {
        let mut policy = BusyPollPolicy::new(BusyPoll::Auto);
        waits_ns.iter().for_each(|ns| policy.record_wait(*ns));
        policy
    }

    #[test]
    fn without_history_it_does_not_spin() {
        assert_eq!(policy_after(&[]).spin_ns(0), 0);
    }

    #[test]
    fn short_waits_spin_and_long_waits_do_not() {
        assert_eq!(policy_after(&[300_000; 20]).spin_ns(0), SPIN_MAX_NS);
        assert_eq!(policy_after(&[20_000_000; 20]).spin_ns(0), 0);
    }

    #[test]
    fn one_long_wait_does_not_end_spinning_but_several_do() {
        let mut policy = policy_after(&[300_000; 40]);
        policy.record_wait(1_000_000_000);
        assert_eq!(policy.spin_ns(0), SPIN_MAX_NS);
        (0..4).for_each(|_| policy.record_wait(1_000_000_000));
        assert_eq!(policy.spin_ns(0), 0);
    }

    #[test]
    fn a_preemption_backs_off_longer_each_time() {
        let mut policy = policy_after(&[300_000; 20]);
        policy.record_preemption(1_000);
        assert_eq!(policy.spin_ns(1_000), 0);
        let end = 1_000 + BACKOFF_NS;
        assert_eq!(policy.spin_ns(end), SPIN_MAX_NS);
        policy.record_preemption(end);
        assert_eq!(policy.spin_ns(end + BACKOFF_NS), 0, "twice as long the second time");
        let quiet = end + 2 * BACKOFF_NS + BACKOFF_RESET_NS;
        policy.record_preemption(quiet);
        assert_eq!(policy.spin_ns(quiet + BACKOFF_NS), SPIN_MAX_NS, "reset after a quiet time");
    }

    #[test]
    fn fixed_and_off_do_not_depend_on_history() {
        let fixed = BusyPollPolicy::new(BusyPoll::For(std::time::Duration::from_micros(50)));
        assert_eq!(fixed.spin_ns(0), 50_000);
        assert_eq!(BusyPollPolicy::new(BusyPoll::Off).spin_ns(0), 0);
    }
}
