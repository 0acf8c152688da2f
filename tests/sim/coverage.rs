//! How often each situation occurred in all runs together: what never occurs is not tested.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The situations.
pub(crate) const NAMES: [&str; 23] = [
    "events",
    "connections",
    "orderly ends",
    "resets",
    "refused by address",
    "idle timeouts",
    "write timeouts",
    "last resorts",
    "stalled sends",
    "rests in shared buffers",
    "cut short",
    "full sends",
    "pieces gathered",
    "receives into several buffers",
    "credit stops",
    "empty pool",
    "bursts armed",
    "bursts cut back",
    "rotations between listeners",
    "accept exhausted",
    "accept aborted",
    "dead listeners",
    "stale events",
];

/// How often each of [`NAMES`] occurred.
#[derive(Debug, Default)]
pub(crate) struct Coverage([AtomicU64; NAMES.len()]);

impl Coverage {
    pub(crate) fn add(&self, counts: [u64; NAMES.len()]) {
        for (total, count) in self.0.iter().zip(counts) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Panics if one of them never occurred.
    pub(crate) fn assert_complete(&self) {
        for (name, total) in NAMES.iter().zip(&self.0) {
            assert!(total.load(Ordering::Relaxed) > 0, "no run had any: {name}");
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, total) in NAMES.iter().zip(&self.0) {
            write!(f, "\n  {:>12} {name}", total.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}
