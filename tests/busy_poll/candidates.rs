//! Policies to choose from.

use std::time::Duration;

use uring_echo::config::BusyPoll;
use uring_echo::engine::busy_poll::budget::Share;
use uring_echo::engine::busy_poll::waits::{PRICE_UNIT, WAKE_UP_NS, WaitHistory};
use uring_echo::engine::busy_poll::{BusyPollPolicy, Spin, Wait};

/// A way to decide how long to spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// Never.
    Off,
    /// `--busy-poll always`.
    Always,
    /// 200 µs before each sleep, as Seastar does.
    Fixed,
    /// As long as a wake-up costs: at most twice the cost of knowing the future.
    SkiRental,
    /// 5 ms while waits are shorter than that on average: what `auto` was.
    Average,
    /// Wherever spinning costs less than it saves, by learned odds; no budget, no way to give way.
    Learned,
    /// `--busy-poll auto`.
    Chosen,
}

pub(crate) const ALL: [(Candidate, &str); 7] = [
    (Candidate::Off, "off"),
    (Candidate::Always, "always"),
    (Candidate::Fixed, "fixed 200 µs"),
    (Candidate::SkiRental, "ski rental"),
    (Candidate::Average, "average wait < 5 ms"),
    (Candidate::Learned, "learned odds"),
    (Candidate::Chosen, "**auto**"),
];

/// A candidate at work.
pub(crate) enum Policy {
    Real(Box<BusyPollPolicy>),
    Average(u64),
    Learned(Box<WaitHistory>),
}

impl Policy {
    pub(crate) fn new(candidate: Candidate) -> Self {
        let real = |mode| Self::Real(Box::new(BusyPollPolicy::new(mode, 0, 0)));
        match candidate {
            Candidate::Off => real(BusyPoll::Off),
            Candidate::Always => real(BusyPoll::Always),
            Candidate::Fixed => real(BusyPoll::For(Duration::from_micros(200))),
            Candidate::SkiRental => real(BusyPoll::For(Duration::from_nanos(WAKE_UP_NS))),
            Candidate::Chosen => real(BusyPoll::Auto),
            Candidate::Average => Self::Average(20_000_000),
            Candidate::Learned => Self::Learned(Box::default()),
        }
    }

    pub(crate) fn spin(&mut self, now: u64, cpu_ns: u64, most: Share) -> Spin {
        let ns = match self {
            Self::Real(policy) => {
                if policy.needs_cpu(now) {
                    policy.record_cpu(now, cpu_ns, most);
                }
                return policy.spin(now);
            }
            Self::Average(wait) if *wait < 5_000_000 => 5_000_000,
            Self::Average(_) => 0,
            Self::Learned(waits) => waits.best_window(PRICE_UNIT),
        };
        Spin { ns, then_sleep: true }
    }

    pub(crate) fn record_wait(&mut self, wait: Wait) {
        match self {
            Self::Real(policy) => policy.record_wait(wait),
            Self::Average(average) => *average = *average - *average / 8 + wait.ns / 8,
            Self::Learned(waits) => {
                let wake_up = if wait.slept { WAKE_UP_NS } else { 0 };
                waits.record(wait.ns.saturating_sub(wake_up).max(wait.spun_ns));
            }
        }
    }

    pub(crate) fn record_preemption(&mut self, now: u64) {
        if let Self::Real(policy) = self {
            policy.record_preemption(now);
        }
    }
}
