//! How many connections each peer has, in a table of fixed size.

use std::hash::{BuildHasher, RandomState};

use super::PeerKey;

const NONE: u32 = u32::MAX;

/// The entry of a peer, kept by each of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerIndex(u32);

impl PeerIndex {
    /// A connection that is not counted.
    pub(crate) const NOBODY: Self = Self(NONE);
}

/// A chained hash table with as many entries as there can be connections, so it is never full.
/// The hash is keyed at random, so that a peer that picks its address cannot pick its chain.
#[derive(Debug)]
pub(crate) struct Peers {
    limit: u32,
    hasher: RandomState,
    buckets: Box<[u32]>,
    entries: Box<[Entry]>,
    first_free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: PeerKey,
    count: u32,
    next: u32,
}

impl Peers {
    pub(crate) fn new(limit: u32, max_connections: u32) -> Self {
        let entry = |index: u32| Entry {
            key: PeerKey(0),
            count: 0,
            next: if index + 1 == max_connections { NONE } else { index + 1 },
        };
        let buckets = max_connections.next_power_of_two() as usize;
        Self {
            limit,
            hasher: RandomState::new(),
            buckets: vec![NONE; buckets].into_boxed_slice(),
            entries: (0..max_connections).map(entry).collect(),
            first_free: 0,
        }
    }

    /// Counts one more connection of `key`; `None` if it has reached its limit.
    pub(crate) fn admit(&mut self, key: PeerKey) -> Option<PeerIndex> {
        let bucket = self.bucket(key);
        let index = match self.find(bucket, key) {
            NONE => self.add(bucket, key),
            index => index,
        };
        let entry = &mut self.entries[index as usize];
        if entry.count >= self.limit {
            return None;
        }
        entry.count += 1;
        Some(PeerIndex(index))
    }

    /// One connection of `peer` less; the last one frees its entry.
    pub(crate) fn leave(&mut self, peer: PeerIndex) {
        if peer == PeerIndex::NOBODY {
            return;
        }
        let entry = &mut self.entries[peer.0 as usize];
        assert!(entry.count > 0, "{:?} has no connection left to close", entry.key);
        entry.count -= 1;
        if entry.count == 0 {
            self.forget(peer.0);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.count == 0)
    }

    fn bucket(&self, key: PeerKey) -> usize {
        let mask = self.buckets.len() as u64 - 1;
        usize::try_from(self.hasher.hash_one(key) & mask).expect("masked to the table")
    }

    fn find(&self, bucket: usize, key: PeerKey) -> u32 {
        let mut index = self.buckets[bucket];
        while index != NONE && self.entries[index as usize].key != key {
            index = self.entries[index as usize].next;
        }
        index
    }

    fn add(&mut self, bucket: usize, key: PeerKey) -> u32 {
        let index = self.first_free;
        let next = std::mem::replace(&mut self.buckets[bucket], index);
        let entry = &mut self.entries[index as usize];
        self.first_free = entry.next;
        *entry = Entry { key, count: 0, next };
        index
    }

    fn forget(&mut self, index: u32) {
        let Entry { key, next, .. } = self.entries[index as usize];
        let bucket = self.bucket(key);
        if self.buckets[bucket] == index {
            self.buckets[bucket] = next;
        } else {
            let mut before = self.buckets[bucket];
            while self.entries[before as usize].next != index {
                before = self.entries[before as usize].next;
            }
            self.entries[before as usize].next = next;
        }
        self.entries[index as usize].next = self.first_free;
        self.first_free = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_at_most_its_limit() {
        let mut peers = Peers::new(2, 8);
        let first = peers.admit(PeerKey(7)).unwrap();
        assert_eq!(peers.admit(PeerKey(7)), Some(first));
        assert_eq!(peers.admit(PeerKey(7)), None);
        assert!(peers.admit(PeerKey(8)).is_some());
        peers.leave(first);
        assert_eq!(peers.admit(PeerKey(7)), Some(first));
    }

    #[test]
    fn entries_are_used_again() {
        let mut peers = Peers::new(1, 4);
        for round in 0..50 {
            let all: Vec<_> =
                (0..4).map(|n| peers.admit(PeerKey(round * 3 + n)).unwrap()).collect();
            all.into_iter().rev().for_each(|peer| peers.leave(peer));
            assert!(peers.is_empty());
        }
    }
}
