//! Connections that hold buffers for which their socket has no room.

use super::Nanos;
use super::connection::{Connection, ListKind};
use crate::slots::{List, Slots};

/// Those connections, in the order in which they began to hold buffers.
#[derive(Debug)]
pub(super) struct Holding {
    list: List<Connection>,
    /// How long a wait for room is nobody else's business.
    grace: Nanos,
}

impl Holding {
    pub(super) fn new(grace: Nanos) -> Self {
        Self { list: List::new(ListKind::Holding), grace }
    }

    /// Connection `index` holds buffers or does not any more.
    pub(super) fn update(&mut self, slots: &mut Slots<Connection>, index: u32) {
        let (holds, known) = (slots.at(index).holds(), self.list.contains(slots, index));
        match (holds, known) {
            (true, false) => self.list.push_back(slots, index),
            (false, true) => self.list.remove(slots, index),
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, slots: &mut Slots<Connection>, index: u32) {
        self.list.remove(slots, index);
    }

    pub(super) fn contains(&self, slots: &Slots<Connection>, index: u32) -> bool {
        self.list.contains(slots, index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The connection that has held buffers for longest, and from when on it may be cut off; `None`
    /// while its socket is not waited for.
    pub(super) fn longest(&self, slots: &Slots<Connection>) -> Option<(u32, Nanos)> {
        let index = self.list.front()?;
        let conn = slots.at(index);
        let since = conn.timer_start(ListKind::Write);
        conn.pace().is_watching().then(|| (index, since.plus(self.grace)))
    }
}
