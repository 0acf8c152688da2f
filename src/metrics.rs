//! Counters that a worker publishes and one observer reads.

use std::sync::Mutex;

use crate::echo::Stats;

/// The latest counters of one worker. The worker never waits for a reader: if one is reading just
/// then, the counters come with the next publication.
#[derive(Debug, Default)]
pub struct Published(Mutex<Stats>);

impl Published {
    /// Publishes, unless somebody is reading.
    pub fn publish(&self, stats: &Stats) {
        if let Ok(mut latest) = self.0.try_lock() {
            *latest = *stats;
        }
    }

    /// The counters as of the last publication.
    #[must_use]
    pub fn read(&self) -> Stats {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sum of several workers' counters.
#[must_use]
pub fn sum(all: impl IntoIterator<Item = Stats>) -> Stats {
    all.into_iter().fold(Stats::default(), |sum, stats| Stats {
        accepted: sum.accepted + stats.accepted,
        closed: sum.closed + stats.closed,
        reset: sum.reset + stats.reset,
        refused_by_ip: sum.refused_by_ip + stats.refused_by_ip,
        idle_timeouts: sum.idle_timeouts + stats.idle_timeouts,
        write_timeouts: sum.write_timeouts + stats.write_timeouts,
        cut_short: sum.cut_short + stats.cut_short,
        bytes_in: sum.bytes_in + stats.bytes_in,
        bytes_out: sum.bytes_out + stats.bytes_out,
        sends: sum.sends + stats.sends,
        gathered: sum.gathered + stats.gathered,
        parked: sum.parked + stats.parked,
        credit_stops: sum.credit_stops + stats.credit_stops,
        accept_exhausted: sum.accept_exhausted + stats.accept_exhausted,
        accept_aborted: sum.accept_aborted + stats.accept_aborted,
        stale: sum.stale + stats.stale,
    })
}
