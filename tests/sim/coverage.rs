//! What all runs together went through: a simulation that never sees a thing proves nothing of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
pub(crate) const NAMES: [&str; 19] = [
    "events",
    "connections",
    "orderly ends",
    "resets",
    "refused by address",
    "idle timeouts",
    "write timeouts",
    "cut short",
    "full sends",
    "pieces gathered",
    "credit stops",
    "empty pool",
    "bursts armed",
    "bursts cut back",
    "turns between listeners",
    "accept exhausted",
    "accept aborted",
    "dead listeners",
    "stale events",
];

/// How often each of [`NAMES`] happened.
#[derive(Debug, Default)]
pub(crate) struct Sights([AtomicU64; NAMES.len()]);

impl Sights {
    pub(crate) fn add(&self, counts: [u64; NAMES.len()]) {
        for (total, count) in self.0.iter().zip(counts) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Panics if something never happened.
    pub(crate) fn assert_complete(&self) {
        for (name, total) in NAMES.iter().zip(&self.0) {
            assert!(total.load(Ordering::Relaxed) > 0, "no run ever saw: {name}");
        }
    }
}

impl fmt::Display for Sights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, total) in NAMES.iter().zip(&self.0) {
            write!(f, "\n  {:>12} {name}", total.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}
