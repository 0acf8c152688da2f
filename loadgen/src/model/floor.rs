//! What the instrument itself costs on a machine: no delay that it measures there can be shorter.

use serde::{Deserialize, Serialize};

/// What `loadgen calibrate` measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Where it was measured: it says nothing about another machine, or this one after a boot.
    pub machine: Machine,
    /// When, RFC 3339 in UTC.
    pub measured_at: String,
    /// Reading the clock once.
    pub clock_read: Cost,
    /// connect called → established, over loopback.
    pub connect: Cost,
    /// connect called → accepted, by a thread that does nothing but accept.
    pub accept_delay: Cost,
    /// One look at a connection in the kernel's socket table; absent where that is denied.
    pub lookup: Option<Cost>,
    /// From one look to the next at a single waiting connection: no bracket of diag is narrower.
    pub diag_resolution: Option<Cost>,
    /// How late a thread wakes that sleeps to an instant.
    pub timer_wakeup: Cost,
}

/// A machine since its boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `/proc/sys/kernel/random/boot_id` (random(4)).
    pub boot_id: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Model of the first CPU.
    pub cpu: Option<String>,
}

/// Some measurements of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// How many.
    pub count: u64,
    /// The smallest.
    pub min_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// 99 % are not above it.
    pub p99_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

impl Cost {
    /// Of measurements in any order; all 0 without any.
    #[must_use]
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let at = |hundredths: usize| {
            let last = samples.len().saturating_sub(1);
            samples.get(last * hundredths / 100).copied().unwrap_or(0)
        };
        Self {
            count: samples.len() as u64,
            min_ns: at(0),
            p50_ns: at(50),
            p99_ns: at(99),
            max_ns: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_ordered_and_an_empty_one_is_zero() {
        let cost = Cost::of((0..=100).rev().collect());
        let expected = Cost { count: 101, min_ns: 0, p50_ns: 50, p99_ns: 99, max_ns: 100 };
        assert_eq!(cost, expected);
        assert_eq!(Cost::of(Vec::new()), Cost::default());
    }
}
