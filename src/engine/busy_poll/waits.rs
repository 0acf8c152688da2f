//! How long waits last, learned: the odds that spinning for so long is fruitful, and its price.

/// What a wake-up costs in delay, in nanoseconds: what a fruitful spin saves. 35 µs on virtual
/// machines; an overestimate only makes the policy spin more of its budget.
pub const WAKE_UP_NS: u64 = 35_000;

/// Upper bounds of the classes of waits, in nanoseconds: also the windows to choose from. A longer
/// window than the last is never worth its price: it costs several times what it saves.
const BOUNDS_NS: [u64; 16] = [
    2_000, 4_000, 8_000, 12_000, 16_000, 20_000, 24_000, 32_000, 40_000, 48_000, 64_000, 80_000,
    96_000, 128_000, 192_000, 256_000,
];
/// A wait is short if it is at most this long.
const SHORT_NS: u64 = 64_000;
/// The history is whether each of this many waits was short.
const HISTORY: u32 = 3;
/// A new wait weighs 1 of `1 << DECAY`: the memory is about 32 waits of the same history.
const DECAY: u32 = 5;
const WEIGHT: u32 = 1 << 16;

/// Prices are in units of 1/256 of a nanosecond of CPU time for each nanosecond of delay saved.
pub const PRICE_UNIT: u64 = 256;

/// Distributions of waits, one for each history of the last waits, as a branch predictor keeps
/// them: the wait for a new client is long, the one for its first message is short.
#[derive(Clone, Debug)]
pub struct WaitHistory {
    seen: [Distribution; 1 << HISTORY],
    history: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Distribution {
    weights: [u32; BOUNDS_NS.len()],
    /// Of all waits, those longer than the last bound included.
    total: u32,
}

impl Default for WaitHistory {
    fn default() -> Self {
        Self { seen: [Distribution::default(); 1 << HISTORY], history: 0 }
    }
}

impl WaitHistory {
    /// Records a wait of `ns`, without the wake-up that ended it.
    pub fn record(&mut self, ns: u64) {
        self.seen[self.history].record(ns);
        let is_short = usize::from(ns <= SHORT_NS);
        self.history = (self.history << 1 | is_short) & (self.seen.len() - 1);
    }

    /// The window that saves most delay for its CPU time, if a nanosecond of CPU time costs `price`
    /// ([`PRICE_UNIT`]); 0 if none is worth it.
    #[must_use]
    pub fn best_window(&self, price: u64) -> u64 {
        self.seen[self.history].best_window(price)
    }
}

impl Distribution {
    fn record(&mut self, ns: u64) {
        for weight in &mut self.weights {
            *weight -= *weight >> DECAY;
        }
        self.total = self.total - (self.total >> DECAY) + (WEIGHT >> DECAY);
        if let Some(class) = BOUNDS_NS.iter().position(|bound| ns <= *bound) {
            self.weights[class] += WEIGHT >> DECAY;
        }
    }

    fn best_window(&self, price: u64) -> u64 {
        let (mut best, mut best_gain) = (0, 0);
        let (mut fruitful, mut spun_ns) = (0, 0);
        for (weight, bound) in self.weights.iter().zip(BOUNDS_NS) {
            let weight = u64::from(*weight);
            fruitful += weight;
            spun_ns += weight * bound;
            let fruitless = u64::from(self.total).saturating_sub(fruitful);
            let cost = (spun_ns + fruitless * bound) / PRICE_UNIT * price;
            let gain = (fruitful * WAKE_UP_NS).saturating_sub(cost);
            if gain > best_gain {
                (best, best_gain) = (bound, gain);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(waits_ns: impl IntoIterator<Item = u64>) -> WaitHistory {
        let mut waits = WaitHistory::default();
        waits_ns.into_iter().for_each(|ns| waits.record(ns));
        waits
    }

    #[test]
    fn without_history_nothing_is_worth_spinning() {
        assert_eq!(after([]).best_window(1), 0);
    }

    #[test]
    fn the_window_covers_waits_that_are_shorter_than_a_wake_up() {
        let ping_pong = after([15_000; 100]);
        assert_eq!(ping_pong.best_window(PRICE_UNIT), 16_000);
        assert_eq!(ping_pong.best_window(4 * PRICE_UNIT), 0, "CPU time is dear");
    }

    #[test]
    fn long_waits_are_not_worth_it() {
        assert_eq!(after([1_000_000; 100]).best_window(1), 0);
        assert_eq!(after([200_000; 100]).best_window(PRICE_UNIT), 0);
    }

    #[test]
    fn what_follows_what_is_learned() {
        // A client comes after 2 ms; its message and its end follow after 12 µs each.
        let mut waits = after([2_000_000, 11_000, 11_000].into_iter().cycle().take(300));
        assert_eq!(waits.best_window(PRICE_UNIT), 0, "the next wait is for a client");
        waits.record(2_000_000);
        assert_eq!(waits.best_window(PRICE_UNIT), 12_000, "the next is for its message");
        waits.record(11_000);
        assert_eq!(waits.best_window(PRICE_UNIT), 12_000, "the next is for its end");
    }

    #[test]
    fn a_change_is_learned_within_some_tens_of_waits() {
        let mut waits = after([15_000; 1000]);
        (0..64).for_each(|_| waits.record(5_000_000));
        assert_eq!(waits.best_window(PRICE_UNIT / 4), 0);
        (0..64).for_each(|_| waits.record(15_000));
        assert_eq!(waits.best_window(PRICE_UNIT / 4), 16_000);
    }
}
