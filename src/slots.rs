//! A table with a fixed number of slots, each with a generation, and [lists](List) linked through
//! it.
//!
//! Both programs keep what they look up by the `user_data` of a completion or of a readiness event
//! in such a table.

mod list;

use std::fmt;

pub use self::list::{Link, Linked, List};

/// How many bits of a generation are used, so that a [`SlotId`] and an operation fit into 64 bits.
pub const GENERATION_BITS: u32 = 28;

const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const NONE: u32 = u32::MAX;

/// Names an entry of a table: a slot, and which of its successive entries.
///
/// An id that outlives its entry does no harm: the generation of the slot's next entry differs, so
/// the stale id finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId {
    index: u32,
    generation: u32,
}

impl SlotId {
    /// The id of entry number `generation` of slot `index`.
    ///
    /// # Panics
    /// If `generation` needs more than [`GENERATION_BITS`].
    #[must_use]
    pub fn new(index: u32, generation: u32) -> Self {
        assert!(generation <= GENERATION_MASK, "generation {generation} is too wide");
        Self { index, generation }
    }

    /// The slot: below the capacity of the table.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which entry of that slot; wraps within [`GENERATION_BITS`].
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// A table of `T` that never grows: insert, remove and look-up are O(1) and allocate nothing.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Box<[Entry<T>]>,
    first_free: u32,
    used: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// Bytes of one slot, used or not.
    pub const BYTES_EACH: usize = size_of::<Entry<T>>();

    /// A table with `capacity` free slots.
    ///
    /// # Panics
    /// If `capacity` is 0 or near `u32::MAX`.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        assert!(capacity > 0 && capacity < NONE - 1, "a table of {capacity} slots");
        let entry = |index: u32| Entry {
            generation: 0,
            next_free: if index + 1 == capacity { NONE } else { index + 1 },
            value: None,
        };
        Self { entries: (0..capacity).map(entry).collect(), first_free: 0, used: 0 }
    }

    /// The id that the next [`insert`](Self::insert) returns; `None` if every slot is used.
    #[must_use]
    pub fn next_id(&self) -> Option<SlotId> {
        let entry = self.entries.get(self.first_free as usize)?;
        Some(SlotId::new(self.first_free, entry.generation))
    }

    /// Puts `value` into a free slot; `None` if there is none.
    pub fn insert(&mut self, value: T) -> Option<SlotId> {
        let index = self.first_free;
        let entry = self.entries.get_mut(index as usize)?;
        self.first_free = entry.next_free;
        self.used += 1;
        entry.value = Some(value);
        Some(SlotId::new(index, entry.generation))
    }

    /// Takes the entry of `id` out, which makes `id` stale; `None` if it is stale already.
    pub fn remove(&mut self, id: SlotId) -> Option<T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        entry.next_free = self.first_free;
        self.first_free = id.index;
        self.used -= 1;
        Some(value)
    }

    /// The entry of `id`; `None` if that is stale.
    #[must_use]
    pub fn get(&self, id: SlotId) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_ref() } else { None }
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_mut() } else { None }
    }

    /// The present entry of slot `index`.
    ///
    /// # Panics
    /// If the slot is free.
    #[must_use]
    pub fn at(&self, index: u32) -> &T {
        self.entries[index as usize].value.as_ref().expect("the slot is used")
    }

    /// As [`at`](Self::at), to change it.
    ///
    /// # Panics
    /// If the slot is free.
    pub fn at_mut(&mut self, index: u32) -> &mut T {
        self.entries[index as usize].value.as_mut().expect("the slot is used")
    }

    /// The id of the present entry of slot `index`; `None` if the slot is free.
    pub fn id_at(&self, index: u32) -> Option<SlotId> {
        let entry = self.entries.get(index as usize)?;
        entry.value.as_ref().map(|_| SlotId::new(index, entry.generation))
    }

    /// How many slots there are.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("made from a u32")
    }

    /// How many slots are used.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// How many slots are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.capacity() - self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.next_id(), Some(SlotId::new(0, 0)));
        let first = slots.insert('a').unwrap();
        assert_eq!((slots.next_id(), slots.insert('x')), (None, None));
        assert_eq!(slots.remove(first), Some('a'));
        let next = slots.next_id();
        let second = slots.insert('b').unwrap();
        assert_eq!(next, Some(second));
        assert_eq!(first.index(), second.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
    }

    #[test]
    fn an_id_beyond_the_table_finds_nothing() {
        let mut slots: Slots<char> = Slots::new(2);
        assert_eq!(slots.get(SlotId::new(2, 0)), None);
        assert_eq!(slots.remove(SlotId::new(2, 0)), None);
    }

    #[test]
    fn every_slot_is_used_before_the_table_is_full() {
        let mut slots = Slots::new(3);
        let ids: Vec<_> = (0..3).map(|n| slots.insert(n).unwrap()).collect();
        assert_eq!((slots.used(), slots.free()), (3, 0));
        for id in ids {
            assert!(slots.remove(id).is_some());
        }
        assert_eq!((slots.used(), slots.free()), (0, 3));
        assert!((0..3).all(|n| slots.insert(n).is_some()));
    }

    #[test]
    fn the_generation_wraps_within_its_bits() {
        let mut slots = Slots::new(1);
        slots.entries[0].generation = GENERATION_MASK;
        let last = slots.insert(()).unwrap();
        assert_eq!(last.generation(), GENERATION_MASK);
        assert_eq!(slots.remove(last), Some(()));
        assert_eq!(slots.insert(()).unwrap().generation(), 0);
    }
}
