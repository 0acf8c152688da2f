//! Counters of a worker's tasks, published shortly after they change.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::monotonic_ns;
use crate::echo::Stats;
use crate::engine::fullness::Fullness;
use crate::metrics::Published;

/// Counters are published at most this often, and not at all while nothing happens.
const PUBLISH: Duration = Duration::from_millis(10);

/// The counters of one worker.
pub(super) struct Counters {
    stats: RefCell<Stats>,
    changed: Notify,
    published: Arc<Published<Stats>>,
}

impl Counters {
    pub(super) fn new(published: Arc<Published<Stats>>) -> Self {
        Self { stats: RefCell::default(), changed: Notify::new(), published }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.borrow_mut());
        self.changed.notify_one();
    }

    pub(super) fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    pub(super) fn publish(&self) {
        self.published.publish(&self.stats.borrow());
    }

    /// Publishes every change; never returns.
    pub(super) async fn publish_changes(&self, mut fullness: Fullness) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(PUBLISH).await;
            self.publish();
            let Stats { accepted, closed, .. } = self.stats();
            fullness.observe(monotonic_ns(), accepted - closed);
        }
    }
}
