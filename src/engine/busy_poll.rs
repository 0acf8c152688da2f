//! How long to spin before sleeping.
//!
//! A sleeping thread takes about 35 µs to wake on a virtual machine, several times what accepting a
//! connection costs. Spinning avoids that, at the price of the CPU. `auto` pays the price only
//! while the next completion can be expected within its window.

use crate::config::BusyPoll;

/// `auto` spins at most this long, and only while waits are typically shorter.
const WINDOW_NS: u64 = 5_000_000;
/// A single wait counts as at most this much, so that one pause does not hide a busy stream.
const LONGEST_COUNTED_NS: u64 = 4 * WINDOW_NS;
/// How many waits the typical wait is averaged over, as a power of two.
const MEMORY_SHIFT: u32 = 3;

/// A spinning thread that finds this much time gone between two looks at the clock was off its
/// CPU: somebody else has work for it.
pub(super) const PREEMPTED_NS: u64 = 500_000;
/// Then `auto` sleeps instead for this long: a thread that has slept gets its CPU back at once
/// when it wakes, one that has spun its share away waits for its turn.
const COURTESY_NS: u64 = 50_000_000;
/// Twice as long each time it happens again soon after, up to this.
const COURTESY_MAX_NS: u64 = 64 * COURTESY_NS;
/// Spinning undisturbed for this long means that the others are gone.
const CALM_NS: u64 = 1_000_000_000;

/// Predicts the next wait from the recent ones.
#[derive(Debug)]
pub(super) struct Patience {
    mode: BusyPoll,
    typical_ns: u64,
    courtesy_ns: u64,
    courteous_until: u64,
}

impl Patience {
    pub(super) const fn new(mode: BusyPoll) -> Self {
        Self { mode, typical_ns: LONGEST_COUNTED_NS, courtesy_ns: COURTESY_NS, courteous_until: 0 }
    }

    /// How long to spin from `now` on before sleeping, in nanoseconds.
    pub(super) fn spin_ns(&self, now: u64) -> u64 {
        let worth_it = self.typical_ns < WINDOW_NS && now >= self.courteous_until;
        match self.mode {
            BusyPoll::Off => 0,
            BusyPoll::For(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            BusyPoll::Auto if worth_it => WINDOW_NS,
            BusyPoll::Auto => 0,
        }
    }

    /// Notes that somebody else had the CPU while this thread was spinning on it.
    pub(super) fn preempted(&mut self, now: u64) {
        let again = now < self.courteous_until.saturating_add(CALM_NS) && self.courteous_until > 0;
        self.courtesy_ns =
            if again { (self.courtesy_ns * 2).min(COURTESY_MAX_NS) } else { COURTESY_NS };
        self.courteous_until = now + self.courtesy_ns;
    }

    /// Notes how long the last wait was.
    pub(super) fn waited(&mut self, ns: u64) {
        let old = self.typical_ns >> MEMORY_SHIFT;
        let new = ns.min(LONGEST_COUNTED_NS) >> MEMORY_SHIFT;
        self.typical_ns = self.typical_ns - old + new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(waits_ns: &[u64]) -> Patience {
        let mut patience = Patience::new(BusyPoll::Auto);
        waits_ns.iter().for_each(|ns| patience.waited(*ns));
        patience
    }

    #[test]
    fn nothing_known_means_no_spinning() {
        assert_eq!(after(&[]).spin_ns(0), 0);
    }

    #[test]
    fn a_steady_stream_is_spun_for_and_a_trickle_is_not() {
        assert_eq!(after(&[300_000; 20]).spin_ns(0), WINDOW_NS);
        assert_eq!(after(&[20_000_000; 20]).spin_ns(0), 0);
    }

    #[test]
    fn one_pause_does_not_end_it_but_silence_does() {
        let mut patience = after(&[300_000; 40]);
        patience.waited(1_000_000_000);
        assert_eq!(patience.spin_ns(0), WINDOW_NS);
        (0..4).for_each(|_| patience.waited(1_000_000_000));
        assert_eq!(patience.spin_ns(0), 0);
    }

    #[test]
    fn a_cpu_that_others_want_is_left_to_them_for_a_while() {
        let mut patience = after(&[300_000; 20]);
        patience.preempted(1_000);
        assert_eq!(patience.spin_ns(1_000), 0);
        let over = 1_000 + COURTESY_NS;
        assert_eq!(patience.spin_ns(over), WINDOW_NS);
        patience.preempted(over);
        assert_eq!(patience.spin_ns(over + COURTESY_NS), 0, "twice as long the second time");
        let calm = over + 2 * COURTESY_NS + CALM_NS;
        patience.preempted(calm);
        assert_eq!(patience.spin_ns(calm + COURTESY_NS), WINDOW_NS, "forgotten after a calm time");
    }

    #[test]
    fn fixed_and_off_are_what_they_say() {
        let fixed = Patience::new(BusyPoll::For(std::time::Duration::from_micros(50)));
        assert_eq!(fixed.spin_ns(0), 50_000);
        assert_eq!(Patience::new(BusyPoll::Off).spin_ns(0), 0);
    }
}
