//! What a thread does while nothing is due.
//!
//! A thread that spins is on time to the microsecond, but it holds a CPU. It spins shortly before
//! something is due and for a while after something happened, and sleeps otherwise. Where the
//! server may want the same CPU, the while is short, and every turn of the spin lets others run
//! (`giving_way`): a server thread that is woken on this CPU would wait for the end of the
//! spinner's slice otherwise, some milliseconds that would be measured as the server's.

use std::hint;
use std::time::Duration;

use super::super::GeneratorPlan;
use super::{EventLoop, GenerateError, Transport};
use crate::observe::DiagWatch;
use crate::sys::addresses::is_local;

/// How a thread waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idling {
    /// Spinning lets others run, at each turn.
    yields: bool,
    /// Spinning goes on for this long after the last event, as long as a connection is open.
    after_activity_ns: u64,
}

impl Idling {
    pub(super) fn of(plan: &GeneratorPlan) -> Self {
        let after_activity_ns = match (plan.yields, is_local(plan.target.ip())) {
            // The wake-up after a sleep then is less than a thousandth of what was waited for.
            (false, _) => 50_000_000,
            // Not here, as far as can be seen: the round trip of a network.
            (true, false) => 2_000_000,
            // About as long as two wake-ups.
            (true, true) => 100_000,
        };
        Self { yields: plan.yields, after_activity_ns }
    }
}

impl<T: Transport> EventLoop<T> {
    /// Spends the time until something is due: prepares a socket, spins, or sleeps.
    pub(super) fn use_slack(&mut self, now_ns: u64) -> Result<(), GenerateError> {
        if !self.completions.is_empty() {
            return Ok(());
        }
        let arrival_ns = self.arrivals.next_ns().unwrap_or(u64::MAX);
        let gap_ns = arrival_ns.saturating_sub(now_ns);
        if gap_ns > PREPARE_GAP_NS && self.sockets.prepare_one(self.table.taken()) {
            return Ok(());
        }
        let active = self.table.taken() > 0
            && now_ns < self.last_activity_ns.saturating_add(self.idling.after_activity_ns);
        let until_ns = arrival_ns.saturating_sub(WAKE_EARLY_NS).min(self.next_chore_ns());
        if active || until_ns < now_ns.saturating_add(SLEEP_MIN_NS) {
            return self.spin(gap_ns);
        }
        let limit_ns = (until_ns - now_ns).min(SLEEP_MAX_NS);
        self.transport.wait(Duration::from_nanos(limit_ns))
    }

    fn spin(&mut self, gap_ns: u64) -> Result<(), GenerateError> {
        if let (Some(watch), PREWARM_GAP_MIN_NS..PREWARM_GAP_MAX_NS) = (&mut self.watch, gap_ns) {
            watch.prewarm(self.target).map_err(GenerateError::Diag)?;
        }
        if !self.idling.yields {
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
/// A sleep before an arrival ends this much earlier: waking up takes tens of microseconds.
const WAKE_EARLY_NS: u64 = 100_000;
/// A shorter sleep is not worth falling asleep.
const SLEEP_MIN_NS: u64 = 20_000;
/// Longest sleep: how long a request to stop may go unnoticed.
const SLEEP_MAX_NS: u64 = 50_000_000;
