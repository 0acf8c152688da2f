//! How much CPU time a worker may spin: in proportion to what it would use without.
//!
//! The contract is `CPU time ≤ 2 × (CPU time of a worker that never spins) + 0.10 of a core`, over
//! any stretch of time. A worker that never spins would use what this one used without its
//! spinning, and the cost of falling asleep for each wait that a fruitful spin ended.

/// CPU time of falling asleep and being woken, in nanoseconds, a low estimate: the budget
/// must not promise what a worker that sleeps would not have used.
const SLEEP_CPU_NS: u64 = 1_500;
/// Of each nanosecond that passes, this many 1/256 may be spun: a little less than 0.10.
const SHARE_OF_TIME: u64 = 23;
/// Of the CPU time used without spinning, this many 1/256 may be spun: 0.9, because one that sleeps
/// finds more events at once and sleeps less often.
const SHARE_OF_WORK: u64 = 230;
/// What is not spun is kept up to this much, in nanoseconds.
const LARGEST_NS: u64 = 4_000_000;
/// With a limit on spinning, what is not spun is kept for this long, in nanoseconds.
const KEPT_FOR_NS: u64 = 20_000_000;
/// The thread's CPU time is read this often, in nanoseconds.
const READ_EVERY_NS: u64 = 1_000_000;

/// The part of a core that a worker may spin at most, in 1/1000; [`Share::WHOLE`] is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// A whole core: no limit.
    pub const WHOLE: Self = Self(1000);

    const fn of(self, ns: u64) -> u64 {
        ns / 1000 * self.0 as u64
    }
}

/// What may still be spun, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Budget {
    level_ns: u64,
    largest_ns: u64,
    read_at: u64,
    cpu_ns: u64,
    spun_ns: u64,
    fruitful: u64,
    clipped: bool,
}

impl Budget {
    /// An empty budget of a thread that has used `cpu_ns` of CPU time until `now`.
    #[must_use]
    pub const fn new(now: u64, cpu_ns: u64) -> Self {
        Self {
            level_ns: 0,
            largest_ns: LARGEST_NS,
            read_at: now,
            cpu_ns,
            spun_ns: 0,
            fruitful: 0,
            clipped: false,
        }
    }

    /// Whether [`Self::earn`] is due.
    #[must_use]
    pub const fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.read_at) >= READ_EVERY_NS
    }

    /// Adds what was earned since the last call, given the thread's CPU time and the most that it
    /// may spin.
    pub fn earn(&mut self, now: u64, cpu_ns: u64, most: Share) {
        let passed = now.saturating_sub(self.read_at);
        let work = cpu_ns.saturating_sub(self.cpu_ns).saturating_sub(self.spun_ns);
        let without_spinning = work + self.fruitful * SLEEP_CPU_NS;
        let saved = self.fruitful * SLEEP_CPU_NS;
        let earned = (without_spinning * SHARE_OF_WORK + passed * SHARE_OF_TIME) / 256 + saved;
        let allowed = if most < Share::WHOLE { most.of(passed) } else { u64::MAX };
        self.clipped = earned > allowed;
        self.largest_ns =
            if most < Share::WHOLE { most.of(KEPT_FOR_NS).min(LARGEST_NS) } else { LARGEST_NS };
        self.level_ns = (self.level_ns + earned.min(allowed)).min(self.largest_ns);
        (self.read_at, self.cpu_ns, self.spun_ns, self.fruitful) = (now, cpu_ns, 0, 0);
    }

    /// Takes what was spun out of the budget.
    pub fn spend(&mut self, spun_ns: u64, is_fruitful: bool) {
        self.level_ns = self.level_ns.saturating_sub(spun_ns);
        self.spun_ns += spun_ns;
        self.fruitful += u64::from(is_fruitful);
    }

    /// What may still be spun, in nanoseconds.
    #[must_use]
    pub const fn level_ns(&self) -> u64 {
        self.level_ns
    }

    /// The price of CPU time, `full` when the budget is full and in inverse proportion to what is
    /// left of it: the less there is, the more a spin has to save.
    #[must_use]
    pub fn price(&self, full: u64) -> u64 {
        full * self.largest_ns / self.level_ns.max(1)
    }

    /// Whether the last [`Self::earn`] was cut by its limit.
    #[must_use]
    pub const fn is_clipped(&self) -> bool {
        self.clipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn an_idle_thread_earns_a_little_less_than_a_tenth() {
        let mut budget = Budget::new(0, 0);
        budget.earn(10 * MS, 0, Share::WHOLE);
        assert_eq!(budget.level_ns(), 10 * MS * 23 / 256);
    }

    #[test]
    fn work_earns_as_much_again_and_spinning_earns_nothing() {
        let mut budget = Budget::new(0, 0);
        budget.spend(2 * MS, false);
        budget.earn(4 * MS, 3 * MS, Share::WHOLE);
        assert_eq!(budget.level_ns(), (MS * 230 + 4 * MS * 23) / 256);
    }

    #[test]
    fn a_fruitful_spin_earns_the_sleep_it_saved_twice() {
        let mut budget = Budget::new(0, 0);
        budget.spend(MS, true);
        budget.earn(MS, MS, Share::WHOLE);
        assert_eq!(budget.level_ns(), (1500 * 230 + MS * 23) / 256 + 1500);
    }

    #[test]
    fn a_limit_clips_what_is_earned_and_what_is_kept() {
        let mut budget = Budget::new(0, 0);
        budget.earn(10 * MS, 10 * MS, Share(20));
        assert!(budget.is_clipped());
        assert_eq!(budget.level_ns(), 10 * MS / 50);
        budget.earn(1_000 * MS, 10 * MS, Share(20));
        assert_eq!(budget.level_ns(), 20 * MS / 50, "kept for 20 ms");
        budget.earn(1_010 * MS, 10 * MS, Share(0));
        assert_eq!(budget.level_ns(), 0, "nothing may be spun");
    }

    #[test]
    fn the_price_rises_as_the_budget_empties() {
        let mut budget = Budget::new(0, 0);
        budget.earn(1_000 * MS, 0, Share::WHOLE);
        assert_eq!(budget.price(64), 64);
        budget.spend(3 * MS, false);
        assert_eq!(budget.price(64), 256);
    }
}
