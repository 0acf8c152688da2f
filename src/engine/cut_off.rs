//! Says in the log how many peers were cut off, at most once a second.

use tracing::{error, warn};

use crate::echo::Stats;

const INTERVAL_NS: u64 = 1_000_000_000;

/// What was said, and when.
#[derive(Debug, Default)]
pub(super) struct CutOffLog {
    said: Counts,
    at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    write_timeouts: u64,
    evicted: u64,
    slips: u64,
}

impl CutOffLog {
    /// Says what is new in `stats`.
    #[inline]
    pub(super) fn update(&mut self, now: u64, stats: &Stats) {
        let &Stats { write_timeouts, evicted, slips, .. } = stats;
        let counts = Counts { write_timeouts, evicted, slips };
        if counts != self.said && self.at.is_none_or(|at| now - at >= INTERVAL_NS) {
            self.say(counts);
            self.at = Some(now);
        }
    }

    #[cold]
    fn say(&mut self, counts: Counts) {
        let before = std::mem::replace(&mut self.said, counts);
        let new = |count: u64, before: u64| (count > before).then(|| count - before);
        if let Some(peers) = new(counts.write_timeouts, before.write_timeouts) {
            warn!(
                peers,
                "cut off: they took less than --min-drain of what is theirs within --write-timeout"
            );
        }
        if let Some(peers) = new(counts.evicted, before.evicted) {
            warn!(
                peers,
                "cut off as the last resort: they held buffers for longest and the pool was empty; \
                 a larger --pool serves them"
            );
        }
        if let Some(connections) = new(counts.slips, before.slips) {
            error!(connections, "given up: an event contradicted what was known; please report");
        }
    }
}
