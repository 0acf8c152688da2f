//! What the loop of a worker does, and what its connections hold.

/// Turns of one worker's loop and the state of its pool; the counts only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopStats {
    /// Turns by how many events each brought: see [`Self::bound`].
    pub turns: [u64; Self::BUCKETS],
    /// Events handled.
    pub events: u64,
    /// Receive buffers.
    pub buffers: u32,
    /// Receive buffers that are not free now.
    pub buffers_in_use: u32,
    /// Connections that wait for a buffer now.
    pub parked: u32,
}

impl LoopStats {
    /// One for turns without an event, one for each power of two up to 4096, one for more.
    pub const BUCKETS: usize = 15;

    /// The most events of a turn in this bucket; `None` for the last one.
    #[must_use]
    pub const fn bound(bucket: usize) -> Option<u64> {
        match bucket {
            0 => Some(0),
            _ if bucket + 1 < Self::BUCKETS => Some(1 << (bucket - 1)),
            _ => None,
        }
    }

    /// Counts one turn.
    #[inline]
    pub(super) fn record(&mut self, events: u64) {
        // The number of bits of what is one less: 0 for one event, 1 for two, 2 for three and four.
        let bucket = events.checked_sub(1).map_or(0, |less| (u64::BITS - less.leading_zeros()) + 1);
        self.turns[(bucket as usize).min(Self::BUCKETS - 1)] += 1;
        self.events += events;
    }

    /// Turns in all.
    #[must_use]
    pub fn all_turns(&self) -> u64 {
        self.turns.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_where_its_events_are_at_most_the_bound() {
        for events in [0, 1, 2, 3, 4, 5, 8, 9, 4096, 4097, u64::from(u32::MAX)] {
            let mut stats = LoopStats::default();
            stats.record(events);
            let bucket = stats.turns.iter().position(|turns| *turns == 1).expect("counted");
            let holds = |bucket| LoopStats::bound(bucket).is_none_or(|most| events <= most);
            assert!(holds(bucket) && (bucket == 0 || !holds(bucket - 1)), "{events}: {bucket}");
            assert_eq!((stats.events, stats.all_turns()), (events, 1));
        }
    }
}
