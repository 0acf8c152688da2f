//! A fixed number of places for connections, each with a generation.

use std::fmt;

/// How many bits of a generation are used, so that an engine can pack a [`ConnId`] into one word.
pub const GENERATION_BITS: u32 = 28;

const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const NONE: u32 = u32::MAX;

/// Names one connection: a place in the table, and which of its tenants.
///
/// A name outlives its connection without harm: once the place has a new tenant, the generation
/// differs and the old name leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// The id of tenant `generation` of place `index`.
    ///
    /// # Panics
    /// If `generation` needs more than [`GENERATION_BITS`].
    pub fn new(index: u32, generation: u32) -> Self {
        assert!(generation <= GENERATION_MASK, "generation {generation} is too wide");
        Self { index, generation }
    }

    /// The place in the table: below `max_connections`.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Which tenant of that place; wraps within [`GENERATION_BITS`].
    pub fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

/// A table of `T` that never grows: insert, remove and look-up are O(1) and allocate nothing.
#[derive(Debug)]
pub(super) struct Slots<T> {
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
    /// What one place takes, used or not.
    pub(super) const BYTES_EACH: usize = size_of::<Entry<T>>();

    pub(super) fn new(capacity: u32) -> Self {
        assert!(capacity > 0 && capacity < NONE - 1, "a table of {capacity} places");
        let entry = |index: u32| Entry {
            generation: 0,
            next_free: if index + 1 == capacity { NONE } else { index + 1 },
            value: None,
        };
        Self { entries: (0..capacity).map(entry).collect(), first_free: 0, used: 0 }
    }

    /// Puts `value` into a free place; `None` if there is none.
    pub(super) fn insert(&mut self, value: T) -> Option<ConnId> {
        let index = self.first_free;
        let entry = self.entries.get_mut(index as usize)?;
        self.first_free = entry.next_free;
        self.used += 1;
        entry.value = Some(value);
        Some(ConnId::new(index, entry.generation))
    }

    /// Frees the place of `id`, whose name is stale from here on.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<T> {
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

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation == id.generation { entry.value.as_mut() } else { None }
    }

    /// The tenant of place `index`, by a caller who knows that there is one.
    pub(super) fn tenant(&self, index: u32) -> &T {
        self.entries[index as usize].value.as_ref().expect("the place has a tenant")
    }

    /// As [`Slots::tenant`], to change it.
    pub(super) fn tenant_mut(&mut self, index: u32) -> &mut T {
        self.entries[index as usize].value.as_mut().expect("the place has a tenant")
    }

    /// The current name of whoever is at `index`; `None` if the place is free.
    pub(super) fn id_at(&self, index: u32) -> Option<ConnId> {
        let entry = self.entries.get(index as usize)?;
        entry.value.as_ref().map(|_| ConnId::new(index, entry.generation))
    }

    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("made from a u32")
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn free(&self) -> u32 {
        self.capacity() - self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_name_leads_nowhere() {
        let mut slots = Slots::new(1);
        let first = slots.insert('a').unwrap();
        assert_eq!(slots.insert('x'), None);
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b').unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
    }

    #[test]
    fn a_name_from_beyond_the_table_leads_nowhere() {
        let mut slots: Slots<char> = Slots::new(2);
        assert_eq!(slots.get(ConnId::new(2, 0)), None);
        assert_eq!(slots.remove(ConnId::new(2, 0)), None);
    }

    #[test]
    fn every_place_is_used_before_the_table_is_full() {
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
