//! How many connections all threads may have open together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `--max-in-flight`, shared: a thread sheds an arrival only if no thread has room.
#[derive(Debug, Clone)]
pub(super) struct OpenConnections {
    open: Arc<AtomicU32>,
    most: u32,
}

impl OpenConnections {
    /// None open, and at most so many.
    pub(super) fn at_most(most: u32) -> Self {
        Self { open: Arc::new(AtomicU32::new(0)), most }
    }

    /// Counts one more, if there is room for it.
    pub(super) fn take(&self) -> bool {
        let more = |open| (open < self.most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One that was counted is closed, or was not opened.
    pub(super) fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_comes_back() {
        let (one, other) = {
            let open = OpenConnections::at_most(2);
            (open.clone(), open)
        };
        assert!(one.take() && one.take() && !other.take());
        one.give_back();
        assert!(other.take() && !one.take());
    }
}
