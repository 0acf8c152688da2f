//! Sleeping in the call that submits sends.
//!
//! A send that takes what its socket has room for has completed when the call that submits it comes
//! to wait: a wait for one completion is over at once, and it takes a second call to sleep. A wait
//! for one more completion than there are sends sleeps in the first.
//!
//! The kernel is told to be content with the sends after [`WINDOW_US`] (`min_wait_usec`, Linux
//! 6.12). Then their completions are late by so much, and the timer and one more wake-up cost
//! several times what a call does. So it is done for as long as something else does come in time,
//! as in a conversation with few peers at once, and hardly ever otherwise.

/// How long completions of sends may stay unnoticed, in microseconds.
pub(super) const WINDOW_US: u32 = 100;

/// The most sends behind which a wait is combined. The kernel does as much work in one go as it is
/// asked to wait for: behind a hundred sends it would receive for a hundred peers before the first
/// of them is answered.
const FEW: u32 = 16;

/// Waits that are not combined after one that was for nothing, four times as many when that happens
/// again.
const PAUSE: std::ops::RangeInclusive<u32> = 64..=65_536;
/// Fruitful waits in a row after which a fruitless one is an exception.
const PROVEN: u32 = 512;

/// Whether the next wait is for more than the sends that are submitted with it.
#[derive(Debug)]
pub(super) struct CombinedWait {
    /// Whether the kernel knows of `min_wait_usec`.
    is_known: bool,
    /// Sends since the last call, each of which completes within the next.
    sends: u32,
    /// Waits to let pass.
    left: u32,
    pause: u32,
    fruitful: u32,
}

impl CombinedWait {
    pub(super) const fn new(is_known: bool) -> Self {
        Self { is_known, sends: 0, left: 0, pause: *PAUSE.start(), fruitful: 0 }
    }

    /// A send was queued that takes only what its socket has room for.
    pub(super) const fn send_queued(&mut self) {
        self.sends += 1;
    }

    /// Sends that take only what their sockets have room for and have not been submitted.
    pub(super) const fn sends(&self) -> u32 {
        self.sends
    }

    /// For the next call, which sleeps or not: how many completions more than one it is to wait
    /// for.
    pub(super) const fn more(&mut self, sleeps: bool) -> u32 {
        let sends = std::mem::replace(&mut self.sends, 0);
        if !self.is_known || !sleeps || sends == 0 || sends > FEW {
            return 0;
        }
        if self.left > 0 {
            self.left -= 1;
            return 0;
        }
        sends
    }

    /// The call that was to wait for `more` has brought `completions`.
    pub(super) fn ended(&mut self, more: u32, completions: usize) {
        if more == 0 {
            return;
        }
        if completions > more as usize {
            self.fruitful = self.fruitful.saturating_add(1);
            return;
        }
        let proven = std::mem::replace(&mut self.fruitful, 0) >= PROVEN;
        let next = if proven { *PAUSE.start() } else { self.pause.saturating_mul(4) };
        self.left = self.pause;
        self.pause = next.min(*PAUSE.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One turn: a send, and a call that sleeps.
    fn turn(wait: &mut CombinedWait) -> u32 {
        wait.send_queued();
        wait.more(true)
    }

    #[test]
    fn only_a_sleep_behind_a_send_is_combined_and_only_if_the_kernel_can() {
        let mut wait = CombinedWait::new(true);
        assert_eq!(wait.more(true), 0, "nothing was sent");
        wait.send_queued();
        assert_eq!(wait.more(false), 0);
        assert_eq!(wait.more(true), 0, "its completion was seen already");
        wait.send_queued();
        assert_eq!(turn(&mut wait), 2);
        assert_eq!(turn(&mut CombinedWait::new(false)), 0);
        (0..FEW).for_each(|_| wait.send_queued());
        assert_eq!(turn(&mut wait), 0, "one more than a few");
    }

    #[test]
    fn a_fruitless_wait_is_repeated_ever_more_rarely() {
        let mut wait = CombinedWait::new(true);
        let mut tries = 0;
        for _ in 0..1_000_000 {
            let more = turn(&mut wait);
            tries += more;
            wait.ended(more, 1);
        }
        // 64, 256, 1,024, 4,096 and 16,384 pass first, and then 65,536 between two.
        assert_eq!(tries, 5 + (1_000_000_u32 - 21_824 - 5).div_ceil(65_537));
    }

    #[test]
    fn what_was_long_fruitful_is_soon_tried_again() {
        let mut wait = CombinedWait::new(true);
        for _ in 0..PROVEN {
            assert_eq!(turn(&mut wait), 1);
            wait.ended(1, 2);
        }
        for _ in 0..3 {
            assert_eq!(turn(&mut wait), 1);
            wait.ended(1, 1);
            let pause = wait.left;
            assert_eq!(pause, 64);
            assert!((0..pause).all(|_| turn(&mut wait) == 0));
            for _ in 0..PROVEN {
                wait.ended(1, 2);
            }
        }
    }
}
