//! What a thread does while nothing is due.

use std::hint;
use std::thread;
use std::time::Duration;

use super::{EventLoop, GenerateError, Transport};
use crate::observe::DiagWatch;

impl<T: Transport> EventLoop<T> {
    /// Spends the time until something is due: prepares a socket, spins, or sleeps.
    pub(super) fn use_slack(&mut self, now_ns: u64) -> Result<(), GenerateError> {
        let next_ns = self.arrivals.next_ns().unwrap_or(u64::MAX);
        let gap_ns = next_ns.saturating_sub(now_ns);
        if !self.completions.is_empty() {
            return Ok(());
        }
        if gap_ns > PREPARE_GAP_NS && self.sockets.prepare_one(self.table.taken()) {
            return Ok(());
        }
        let active =
            self.table.taken() > 0 && now_ns < self.last_activity_ns + SPIN_AFTER_ACTIVITY_NS;
        if active || gap_ns < SLEEP_GAP_NS {
            return self.spin(gap_ns);
        }
        let until_ns = (next_ns - WAKE_EARLY_NS.min(next_ns)).min(self.next_chore_ns());
        let limit_ns = until_ns.saturating_sub(now_ns).clamp(1, SLEEP_MAX_NS);
        self.transport.wait(Duration::from_nanos(limit_ns))
    }

    fn spin(&mut self, gap_ns: u64) -> Result<(), GenerateError> {
        if self.yields {
            thread::yield_now();
        } else if let (Some(watch), PREWARM_GAP_MIN_NS..PREWARM_GAP_MAX_NS) =
            (&mut self.watch, gap_ns)
        {
            watch.prewarm(self.target).map_err(GenerateError::Diag)?;
        } else {
            hint::spin_loop();
        }
        Ok(())
    }

    /// When something besides an arrival or a completion is due.
    fn next_chore_ns(&self) -> u64 {
        let overdue_ns = self.table.oldest().map(|(_, at)| at.saturating_add(self.timeout_ns));
        let look_ns = self.watch.as_ref().and_then(DiagWatch::next_due_ns);
        let first = overdue_ns.into_iter().chain(look_ns).min();
        first.unwrap_or(u64::MAX).min(self.exchange.next_ns())
    }
}

/// A socket is prepared if no arrival is due for this long, ten times what it takes.
const PREPARE_GAP_NS: u64 = 50_000;
/// Looks are rehearsed this long before an arrival, but not so late that it would have to wait.
const PREWARM_GAP_MAX_NS: u64 = 50_000;
const PREWARM_GAP_MIN_NS: u64 = 4_000;
/// Nothing is slept away if an arrival is due within this time.
const SLEEP_GAP_NS: u64 = 1_000_000;
/// A sleep before an arrival ends this much earlier: waking up takes tens of microseconds, seldom
/// hundreds.
const WAKE_EARLY_NS: u64 = 500_000;
/// Spinning goes on for this long after the last event. The wake-up after a sleep then is less
/// than a thousandth of what had been waited for.
const SPIN_AFTER_ACTIVITY_NS: u64 = 50_000_000;
/// Longest sleep: how long a request to stop may go unnoticed.
const SLEEP_MAX_NS: u64 = 50_000_000;
