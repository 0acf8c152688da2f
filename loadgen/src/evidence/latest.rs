//! The accept queue as it was sampled last, for whoever shows the run while it goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ListenerSampler, QueueDepth};
use crate::model::live::LiveQueue;

/// A cell that the evidence thread writes and the main thread reads.
#[derive(Clone, Debug, Default)]
pub struct LatestQueue(Arc<AtomicU64>);

impl LatestQueue {
    /// The last sample; `None` before the first one.
    pub fn read(&self) -> Option<LiveQueue> {
        let packed = self.0.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        // Depths are stored plus one: nothing stored yet is 0.
        let depth = half(packed >> 32).checked_sub(1)?;
        Some(LiveQueue { depth, limit: half(packed) })
    }

    /// A sampler that notes each of its samples here.
    pub fn noting(
        &self,
        inner: Box<dyn ListenerSampler + Send>,
    ) -> Box<dyn ListenerSampler + Send> {
        Box::new(Noting { inner, latest: self.clone() })
    }

    fn write(&self, depth: QueueDepth) {
        let queued = u64::from(depth.queued_max.saturating_add(1));
        self.0.store(queued << 32 | u64::from(depth.limit), Ordering::Relaxed);
    }
}

struct Noting {
    inner: Box<dyn ListenerSampler + Send>,
    latest: LatestQueue,
}

impl ListenerSampler for Noting {
    fn sample(&mut self) -> io::Result<QueueDepth> {
        let depth = self.inner.sample()?;
        self.latest.write(depth);
        Ok(depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sample_is_read_and_before_it_nothing() {
        let latest = LatestQueue::default();
        assert_eq!(latest.read(), None);
        latest.write(QueueDepth { queued_max: 0, limit: 4096, ..QueueDepth::default() });
        assert_eq!(latest.read(), Some(LiveQueue { depth: 0, limit: 4096 }));
        latest.write(QueueDepth { queued_max: 129, limit: 128, ..QueueDepth::default() });
        assert_eq!(latest.read(), Some(LiveQueue { depth: 129, limit: 128 }));
    }
}
