//! Which rings of a server can be had, found out by making them.

use std::num::NonZeroUsize;

use crate::config::Config;
use crate::engine::limits::WorkerLimits;
use crate::ring::{Ring, RingError, Setup};

/// What came of making every ring that a server needs.
#[derive(Debug)]
pub struct Trial {
    /// How many workers could have their ring at once.
    pub workers: usize,
    /// Features that the kernel lacks.
    pub degraded: Vec<String>,
    /// Why not all of them.
    pub refused: Option<RingError>,
}

impl Trial {
    /// How many workers locked memory suffices for, and why not for all: at least one.
    #[must_use]
    pub fn fewer_workers(&self) -> Option<(NonZeroUsize, String)> {
        let diagnosis = self.refused.as_ref()?.short_of_memory()?;
        let reason = format!("{}; {}", diagnosis.cause, diagnosis.remedy);
        Some((NonZeroUsize::new(self.workers)?, reason))
    }
}

/// Makes every ring that a server of this configuration needs, all at once because they share
/// RLIMIT_MEMLOCK, and drops them.
#[must_use]
pub fn try_rings(config: &Config, nofile: u32) -> Trial {
    let limits =
        (0..config.workers.get()).map(|index| WorkerLimits::resolve(config, nofile, index));
    // Numbers that do not fit are reported by whoever needs them.
    let setups = limits.flatten().map(|limits| limits.ring);
    let mut rings = Vec::new();
    let mut refused = None;
    // The first one makes the listeners.
    for setup in [Setup::CALLS].into_iter().chain(setups) {
        match Ring::new(&setup) {
            Ok(ring) => rings.push(ring),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let degraded = rings.last().map(|ring| ring.degraded().to_vec()).unwrap_or_default();
    Trial { workers: rings.len().saturating_sub(1), degraded, refused }
}
