//! The policy: when to spin, for how long, and what to do when nothing came.

use super::budget::{Budget, Share};
use super::contention::Contention;
use super::waits::{PRICE_UNIT, WAKE_UP_NS, WaitHistory};
use super::{BusyPollStats, LimitedBy};
use crate::config::BusyPoll;

pub use super::contention::PREEMPTED_NS;

/// A nanosecond of delay saved is worth up to this many nanoseconds of CPU time while the budget
/// is full.
const WORTH: u64 = 4;
/// `always` returns to the worker's loop this often, in nanoseconds, for its counters.
const ALWAYS_NS: u64 = 10_000_000;
/// A limit is reported for this long after it last applied, in nanoseconds.
const REPORTED_NS: u64 = 1_000_000_000;

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spin {
    /// Spin for this long first, in nanoseconds.
    pub ns: u64,
    /// Whether to sleep if nothing came.
    pub then_sleep: bool,
}

/// How a wait went, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// From its beginning to the first event.
    pub ns: u64,
    /// Of which the worker was spinning.
    pub spun_ns: u64,
    /// It slept after that: `ns` has a wake-up in it.
    pub slept: bool,
}

/// Decides how a worker waits, from how its waits went so far.
#[derive(Clone, Debug)]
pub struct BusyPollPolicy {
    mode: BusyPoll,
    waits: WaitHistory,
    budget: Budget,
    contention: Contention,
    clipped_at: Option<u64>,
    stats: BusyPollStats,
}

impl BusyPollPolicy {
    /// The policy of a thread that has used `cpu_ns` of CPU time until `now`.
    #[must_use]
    pub fn new(mode: BusyPoll, now: u64, cpu_ns: u64) -> Self {
        Self {
            mode,
            waits: WaitHistory::default(),
            budget: Budget::new(now, cpu_ns),
            contention: Contention::default(),
            clipped_at: None,
            stats: BusyPollStats::default(),
        }
    }

    /// How to wait from `now` on.
    #[must_use]
    pub fn spin(&self, now: u64) -> Spin {
        let ns = match self.mode {
            BusyPoll::Off => 0,
            BusyPoll::Always => return Spin { ns: ALWAYS_NS, then_sleep: false },
            BusyPoll::For(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            BusyPoll::Auto if self.contention.is_backing_off(now) => 0,
            BusyPoll::Auto => self.affordable_window(),
        };
        Spin { ns, then_sleep: true }
    }

    fn affordable_window(&self) -> u64 {
        let window = self.waits.best_window(self.budget.price(PRICE_UNIT / WORTH));
        if window <= self.budget.level_ns() { window } else { 0 }
    }

    /// Whether [`Self::record_cpu`] is due. It enters the kernel, so it is not done for each wait.
    #[must_use]
    pub fn needs_cpu(&self, now: u64) -> bool {
        self.mode == BusyPoll::Auto && self.budget.is_due(now)
    }

    /// Records the CPU time that this thread has used until `now`, and how much it may spin.
    pub fn record_cpu(&mut self, now: u64, cpu_ns: u64, most: Share) {
        self.budget.earn(now, cpu_ns, most);
        if self.budget.is_clipped() {
            self.clipped_at = Some(now);
        }
        self.stats.limited_by = self.limited_by(now);
    }

    fn limited_by(&self, now: u64) -> LimitedBy {
        match self.clipped_at {
            Some(at) if now.saturating_sub(at) < REPORTED_NS => LimitedBy::Quota,
            _ if self.contention.is_backing_off(now) => LimitedBy::Contention,
            _ => LimitedBy::None,
        }
    }

    /// Records how a wait went that brought an event.
    pub fn record_wait(&mut self, wait: Wait) {
        if wait.spun_ns > 0 {
            self.budget.spend(wait.spun_ns, !wait.slept);
            let (count, ns) = match wait.slept {
                true => (&mut self.stats.fruitless, &mut self.stats.fruitless_ns),
                false => (&mut self.stats.fruitful, &mut self.stats.fruitful_ns),
            };
            *count += 1;
            *ns += wait.spun_ns;
        }
        if self.mode == BusyPoll::Auto {
            let wake_up = if wait.slept { WAKE_UP_NS } else { 0 };
            self.waits.record(wait.ns.saturating_sub(wake_up).max(wait.spun_ns));
        }
    }

    /// Records that the thread was preempted while it was spinning.
    pub fn record_preemption(&mut self, now: u64) {
        self.stats.preemptions += 1;
        self.contention.record_preemption(now);
        if self.mode == BusyPoll::Auto {
            self.stats.limited_by = self.limited_by(now);
        }
    }

    /// What spinning brought and cost so far.
    #[must_use]
    pub const fn stats(&self) -> &BusyPollStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHORT: Wait = Wait { ns: 15_000, spun_ns: 0, slept: false };

    /// A policy with a full budget that has seen short waits only, at 1 s.
    fn eager() -> (BusyPollPolicy, u64) {
        let mut policy = BusyPollPolicy::new(BusyPoll::Auto, 0, 0);
        (0..50).for_each(|_| policy.record_wait(SHORT));
        policy.record_cpu(1_000_000_000, 500_000_000, Share::WHOLE);
        (policy, 1_000_000_000)
    }

    fn window(policy: &BusyPollPolicy, now: u64) -> u64 {
        policy.spin(now).ns
    }

    #[test]
    fn short_waits_within_the_budget_spin() {
        let (mut policy, now) = eager();
        assert_eq!(policy.spin(now), Spin { ns: 16_000, then_sleep: true });
        policy.record_wait(Wait { ns: 3_999_000, spun_ns: 3_999_000, slept: true });
        assert_eq!(window(&policy, now), 0, "the budget is spent");
        assert_eq!(policy.stats().fruitless_ns, 3_999_000);
    }

    #[test]
    fn a_wake_up_is_not_part_of_a_wait() {
        let (mut policy, now) = eager();
        let asleep = Wait { ns: 15_000 + WAKE_UP_NS, spun_ns: 0, slept: true };
        (0..100).for_each(|_| policy.record_wait(asleep));
        assert_eq!(window(&policy, now), 16_000);
    }

    #[test]
    fn contention_and_quota_end_spinning_and_are_named() {
        let (mut policy, now) = eager();
        policy.record_preemption(now);
        assert_eq!(window(&policy, now), 0);
        assert_eq!(policy.stats().limited_by, LimitedBy::Contention);
        let (mut policy, now) = eager();
        policy.record_cpu(now + 1_000_000, 500_000_000, Share(0));
        assert_eq!(window(&policy, now), 0);
        assert_eq!(policy.stats().limited_by, LimitedBy::Quota);
        policy.record_cpu(now + 2_000_000_000, 500_000_000, Share::WHOLE);
        assert_eq!(policy.stats().limited_by, LimitedBy::None);
        assert_eq!(window(&policy, now), 16_000);
    }

    #[test]
    fn the_other_modes_do_not_depend_on_history() {
        let policy = |mode| BusyPollPolicy::new(mode, 0, 0);
        let mut always = policy(BusyPoll::Always);
        always.record_preemption(5);
        assert!(!always.spin(6).then_sleep && always.spin(6).ns > 0);
        let fixed = policy(BusyPoll::For(Duration::from_micros(50)));
        assert_eq!(fixed.spin(0), Spin { ns: 50_000, then_sleep: true });
        assert_eq!(window(&policy(BusyPoll::Off), 0), 0);
    }
}
