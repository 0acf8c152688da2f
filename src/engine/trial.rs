//! Whether the rings of a server can be had, found out by making them.

use crate::config::Config;
use crate::engine::limits::WorkerLimits;
use crate::ring::{Ring, RingError, Setup};

/// Makes every ring that a server of this configuration needs, all at once because they share
/// RLIMIT_MEMLOCK, and drops them. Returns the features that the kernel lacks.
///
/// # Errors
/// The first ring that could not be made.
pub fn try_rings(config: &Config, nofile: u32) -> Result<Vec<String>, RingError> {
    let limits =
        (0..config.workers.get()).map(|index| WorkerLimits::resolve(config, nofile, index));
    // Numbers that do not fit are reported by whoever needs them.
    let setups = limits.flatten().map(|limits| limits.ring).chain([Setup::CALLS]);
    let rings = setups.map(|setup| Ring::new(&setup)).collect::<Result<Vec<_>, _>>()?;
    Ok(rings.first().map(|ring| ring.degraded().to_vec()).unwrap_or_default())
}
