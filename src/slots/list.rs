//! Doubly linked lists of table entries, linked through the entries themselves: every operation is
//! O(1) and allocates nothing.

use std::fmt::Debug;

use super::Slots;

const NONE: u32 = u32::MAX;
const UNLINKED: u32 = u32::MAX - 1;

/// What can be in lists: an entry with a [`Link`] for each list that it may be in.
pub trait Linked {
    /// Which list.
    type List: Copy + Debug;

    /// The entry's place in `list`.
    fn link(&self, list: Self::List) -> &Link;

    /// As [`link`](Self::link), to change it.
    fn link_mut(&mut self, list: Self::List) -> &mut Link;
}

/// The place of an entry in one list.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// In no list.
    pub const UNLINKED: Self = Self { prev: UNLINKED, next: UNLINKED };
}

/// A first-in, first-out list from which any entry can be removed.
#[derive(Debug)]
pub struct List<T: Linked> {
    which: T::List,
    head: u32,
    tail: u32,
    len: u32,
}

impl<T: Linked> List<T> {
    /// An empty list that uses the links for `which`: one list of a table for each.
    #[must_use]
    pub const fn new(which: T::List) -> Self {
        Self { which, head: NONE, tail: NONE, len: 0 }
    }

    /// Whether no entry is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// How many entries are in it.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// The slot of the entry that has been in the list for longest.
    #[must_use]
    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Whether the entry of slot `index` is in it.
    #[must_use]
    pub fn contains(&self, slots: &Slots<T>, index: u32) -> bool {
        slots.at(index).link(self.which).prev != UNLINKED
    }

    /// Adds the entry of slot `index` at the end.
    ///
    /// # Panics
    /// If it is in the list already.
    pub fn push_back(&mut self, slots: &mut Slots<T>, index: u32) {
        assert!(!self.contains(slots, index), "{index} is in {:?} already", self.which);
        *slots.at_mut(index).link_mut(self.which) = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => slots.at_mut(tail).link_mut(self.which).next = index,
        }
        self.tail = index;
        self.len += 1;
    }

    /// Removes the entry of slot `index`, if it is in the list.
    pub fn remove(&mut self, slots: &mut Slots<T>, index: u32) {
        let link = std::mem::replace(slots.at_mut(index).link_mut(self.which), Link::UNLINKED);
        if link.prev == UNLINKED {
            return;
        }
        self.len -= 1;
        match link.prev {
            NONE => self.head = link.next,
            prev => slots.at_mut(prev).link_mut(self.which).next = link.next,
        }
        match link.next {
            NONE => self.tail = link.prev,
            next => slots.at_mut(next).link_mut(self.which).prev = link.prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(Link);

    impl Linked for Entry {
        type List = ();

        fn link(&self, (): ()) -> &Link {
            &self.0
        }

        fn link_mut(&mut self, (): ()) -> &mut Link {
            &mut self.0
        }
    }

    #[test]
    fn entries_leave_in_the_order_they_came_or_from_anywhere() {
        let (mut slots, mut list) = (Slots::new(4), List::new(()));
        for _ in 0..4 {
            let id = slots.insert(Entry(Link::UNLINKED)).unwrap();
            list.push_back(&mut slots, id.index());
        }
        list.remove(&mut slots, 2);
        list.remove(&mut slots, 2);
        assert_eq!(list.len(), 3);
        assert!(!list.contains(&slots, 2) && list.contains(&slots, 3));
        for expected in [0, 1, 3] {
            assert_eq!(list.front(), Some(expected));
            list.remove(&mut slots, expected);
        }
        assert!(list.is_empty() && list.front().is_none());
        list.push_back(&mut slots, 2);
        assert_eq!(list.front(), Some(2));
    }
}
