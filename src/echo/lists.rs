//! Lists of connections, linked through the connections themselves: every step is O(1).

use super::connection::Connection;
use super::slots::Slots;

const NONE: u32 = u32::MAX;
const UNLINKED: u32 = u32::MAX - 1;

/// Which list: a connection can be in each of them once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// By last activity.
    Idle,
    /// By the start of the send in flight.
    Write,
    /// Waiting for a buffer.
    Parked,
}

/// A connection's place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    pub(super) const UNLINKED: Self = Self { prev: UNLINKED, next: UNLINKED };
}

/// A first-in first-out list that also lets any member leave.
#[derive(Debug)]
pub(super) struct List {
    lane: Lane,
    head: u32,
    tail: u32,
}

impl List {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, head: NONE, tail: NONE }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn contains(&self, slots: &Slots<Connection>, index: u32) -> bool {
        slots.tenant(index).link(self.lane).prev != UNLINKED
    }

    pub(super) fn push_back(&mut self, slots: &mut Slots<Connection>, index: u32) {
        assert!(!self.contains(slots, index), "{index} is in {:?} already", self.lane);
        *slots.tenant_mut(index).link_mut(self.lane) = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => slots.tenant_mut(tail).link_mut(self.lane).next = index,
        }
        self.tail = index;
    }

    /// Takes `index` out, if it is in.
    pub(super) fn remove(&mut self, slots: &mut Slots<Connection>, index: u32) {
        let link = std::mem::replace(slots.tenant_mut(index).link_mut(self.lane), Link::UNLINKED);
        if link.prev == UNLINKED {
            return;
        }
        match link.prev {
            NONE => self.head = link.next,
            prev => slots.tenant_mut(prev).link_mut(self.lane).next = link.next,
        }
        match link.next {
            NONE => self.tail = link.prev,
            next => slots.tenant_mut(next).link_mut(self.lane).prev = link.prev,
        }
    }
}
