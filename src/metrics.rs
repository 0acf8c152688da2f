//! Counters that a worker publishes and others read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The threads that may read at the same time: signals, CPU quotas, health and the admin endpoint.
const READERS: usize = 4;

/// The latest counters of one worker, which never waits for a reader: a place that is being read is
/// passed over, and there is one more of them than readers.
#[derive(Debug, Default)]
pub struct Published<T> {
    places: [Mutex<Publication<T>>; READERS + 1],
    published: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Publication<T> {
    /// The newest has the highest.
    number: u64,
    counters: T,
}

impl<T: Copy> Published<T> {
    /// Publishes; to be called by one thread.
    pub fn publish(&self, counters: &T) {
        let Some(mut place) = self.places.iter().find_map(|place| place.try_lock().ok()) else {
            return;
        };
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        *place = Publication { number, counters: *counters };
    }

    /// The counters as of the last publication.
    #[must_use]
    pub fn read(&self) -> T {
        let read = |place: &Mutex<_>| *place.lock().unwrap_or_else(PoisonError::into_inner);
        let [first, others @ ..] = &self.places;
        let newer = |one: Publication<T>, other: Publication<T>| {
            if other.number > one.number { other } else { one }
        };
        others.iter().map(read).fold(read(first), newer).counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_while_others_read_is_not_lost() {
        let published = Published::default();
        published.publish(&1);
        let reading: Vec<_> = published.places[..READERS].iter().map(Mutex::lock).collect();
        published.publish(&2);
        drop(reading);
        assert_eq!(published.read(), 2);
        published.publish(&3);
        assert_eq!(published.read(), 3, "in another place than the one before");
    }
}
