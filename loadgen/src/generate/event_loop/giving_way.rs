//! Lets others have the CPU where the server may want it.
//!
//! Over loopback the kernel wakes the server's thread inside the generator's call, often on the
//! generator's CPU: wherever the scheduler pulls who is woken to who wakes it, or where there is
//! only one. Until the generator gives way, that thread waits, and the wait would be measured as
//! the server's.

use std::thread;

use uring_echo::clock::{monotonic_ns, thread_cpu_ns};

/// How a thread gives way, and for how long it did not.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivingWay {
    yields: bool,
    /// When the thread first did something that may have woken the server, since it last gave way.
    woken_ns: Option<u64>,
}

/// A time in which a thread ran on while somebody waited for its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuHeld {
    pub(super) from_ns: u64,
    pub(super) length_ns: u64,
}

impl GivingWay {
    /// A thread that has a CPU of its own never gives way.
    pub(super) const fn new(yields: bool) -> Self {
        Self { yields, woken_ns: None }
    }

    /// A call begins in which somebody else may get this CPU.
    pub(super) fn begin_call(&self) -> CallBegin {
        CallBegin(self.yields.then(|| (monotonic_ns(), thread_cpu_ns())))
    }

    /// What was done at this instant may have woken the server.
    pub(super) fn server_woken(&mut self, at_ns: u64) {
        self.woken_ns.get_or_insert(at_ns);
    }

    /// Lets whoever waits for this CPU run. If somebody did, this thread kept the CPU from him at
    /// most since it may have woken him.
    pub(super) fn give_way(&mut self) -> Option<CpuHeld> {
        let woken_ns = self.woken_ns.take();
        if !self.yields {
            return None;
        }
        let before_ns = monotonic_ns();
        thread::yield_now();
        let away_ns = monotonic_ns().saturating_sub(before_ns);
        held(woken_ns?, before_ns, away_ns)
    }
}

/// The instant, and the CPU time used until then; `None` where nobody else wants the CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallBegin(Option<(u64, u64)>);

impl CallBegin {
    /// Whether somebody else ran on this CPU since then. It may be told of a call that was not
    /// interrupted: a kernel with IRQ_TIME_ACCOUNTING does not count its own work as CPU time.
    pub(super) fn was_interrupted(self) -> bool {
        let Some((began_ns, used_ns)) = self.0 else { return false };
        let ran_ns = thread_cpu_ns().saturating_sub(used_ns);
        let passed_ns = monotonic_ns().saturating_sub(began_ns);
        passed_ns.saturating_sub(ran_ns) > INTERRUPTION_MIN_NS
    }
}

fn held(woken_ns: u64, before_ns: u64, away_ns: u64) -> Option<CpuHeld> {
    let length_ns = before_ns.saturating_sub(woken_ns);
    (away_ns > UNCONTESTED_MAX_NS).then_some(CpuHeld { from_ns: woken_ns, length_ns })
}

/// A yield takes less than a microsecond if nobody waits, else two context switches.
const UNCONTESTED_MAX_NS: u64 = 3_000;

/// An interruption takes two context switches and what is between them, and the readings of the two
/// clocks are less than this apart.
const INTERRUPTION_MIN_NS: u64 = 4_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_call_in_which_the_thread_slept_was_interrupted() {
        let begin = GivingWay::new(true).begin_call();
        thread::sleep(Duration::from_millis(1));
        assert!(begin.was_interrupted());
        let alone = GivingWay::new(false).begin_call();
        thread::sleep(Duration::from_millis(1));
        assert!(!alone.was_interrupted());
    }

    #[test]
    fn only_a_yield_that_somebody_used_ends_a_time_in_which_he_waited() {
        assert_eq!(held(1_000, 9_000, 500), None);
        let expected = CpuHeld { from_ns: 1_000, length_ns: 8_000 };
        assert_eq!(held(1_000, 9_000, 40_000), Some(expected));
    }

    #[test]
    fn a_wait_begins_with_the_first_call_since_the_last_yield() {
        let mut giving_way = GivingWay::new(true);
        giving_way.server_woken(5);
        giving_way.server_woken(7);
        assert_eq!(giving_way.woken_ns, Some(5));
        giving_way.give_way();
        assert_eq!(giving_way.woken_ns, None);
        let mut alone = GivingWay::new(false);
        alone.server_woken(5);
        assert_eq!(alone.give_way(), None);
    }
}
