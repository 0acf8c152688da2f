//! Counters that a worker publishes and one observer reads.

use std::sync::Mutex;

/// The latest counters of one worker. The worker never waits for a reader: while one is reading, a
/// publication is skipped, and the next one carries its counts too.
#[derive(Debug, Default)]
pub struct Published<T>(Mutex<T>);

impl<T: Copy> Published<T> {
    /// Publishes, unless they are being read.
    pub fn publish(&self, counters: &T) {
        if let Ok(mut latest) = self.0.try_lock() {
            *latest = *counters;
        }
    }

    /// The counters as of the last publication.
    #[must_use]
    pub fn read(&self) -> T {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
