//! Busy poll: how long a worker spins before it sleeps.
//!
//! A sleeping thread takes about 35 µs to wake on a virtual machine, several times what accepting a
//! connection costs. Spinning avoids the wake-up and costs CPU time instead, which others may need:
//! a neighbour on the same core, or the worker itself under a CPU quota.
//!
//! Everything but [`observer`] is pure: time, CPU time and what the kernel's files said are
//! parameters. `tests/busy_poll.rs` simulates the policy beside others; docs/busy-poll.md has its
//! table and the reasons.

pub mod budget;
pub mod contention;
pub(crate) mod observer;
pub mod policy;
pub mod quota;
pub mod waits;

use std::iter::Sum;
use std::ops::Add;

pub use self::policy::{BusyPollPolicy, Spin, Wait};

/// What kept a worker from spinning as much as its own budget would have allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitedBy {
    /// Nothing.
    #[default]
    None,
    /// Others want the CPU: the worker was preempted while it was spinning.
    Contention,
    /// The CPU quota of a control group.
    Quota,
}

impl LimitedBy {
    /// As in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Contention => "contention",
            Self::Quota => "quota",
        }
    }
}

/// What spinning brought and cost; the counts only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyPollStats {
    /// Waits that ended while the worker was spinning: each saved a wake-up.
    pub fruitful: u64,
    /// Waits that outlasted the spinning.
    pub fruitless: u64,
    /// Time spun in the former, in nanoseconds.
    pub fruitful_ns: u64,
    /// Time spun in the latter, in nanoseconds.
    pub fruitless_ns: u64,
    /// Preemptions while spinning.
    pub preemptions: u64,
    /// What limits spinning at the moment; of several workers, the most severe.
    pub limited_by: LimitedBy,
}

impl BusyPollStats {
    /// Time spun, in nanoseconds.
    #[must_use]
    pub const fn spun_ns(&self) -> u64 {
        self.fruitful_ns + self.fruitless_ns
    }
}

impl Add for BusyPollStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            fruitful: self.fruitful + other.fruitful,
            fruitless: self.fruitless + other.fruitless,
            fruitful_ns: self.fruitful_ns + other.fruitful_ns,
            fruitless_ns: self.fruitless_ns + other.fruitless_ns,
            preemptions: self.preemptions + other.preemptions,
            limited_by: self.limited_by.max(other.limited_by),
        }
    }
}

impl Sum for BusyPollStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
