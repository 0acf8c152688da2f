//! One timeout shared by all connections: since it is the same for each, the one that was active
//! longest ago is always first, and keeping them in order costs O(1).

use super::Nanos;
use super::connection::{Connection, ListKind};
use crate::slots::{List, Slots};

/// Connections by when they were last active, and how long they may go without.
///
/// Activity within 1/8 of the timeout after the last noted one is not noted, so a busy connection
/// is moved eight times per timeout and not once per message. In exchange a connection is found
/// up to 1/8 late, never early.
#[derive(Debug)]
pub(super) struct Timer {
    timeout: Option<Nanos>,
    list_kind: ListKind,
    list: List<Connection>,
}

impl Timer {
    pub(super) fn new(list_kind: ListKind, timeout: Option<Nanos>) -> Self {
        Self { timeout, list_kind, list: List::new(list_kind) }
    }

    /// Connection `index` is active at `now`: its time starts again.
    pub(super) fn touch(&mut self, slots: &mut Slots<Connection>, index: u32, now: Nanos) {
        let Some(timeout) = self.timeout else { return };
        if self.list.contains(slots, index) {
            let since = *slots.at_mut(index).timer_start_mut(self.list_kind);
            if now.0.saturating_sub(since.0) <= timeout.0 / 8 {
                return;
            }
            self.list.remove(slots, index);
        }
        *slots.at_mut(index).timer_start_mut(self.list_kind) = now;
        self.list.push_back(slots, index);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots<Connection>, index: u32) {
        self.list.remove(slots, index);
    }

    /// Takes out one connection whose time is over.
    pub(super) fn expired(&mut self, slots: &mut Slots<Connection>, now: Nanos) -> Option<u32> {
        if self.deadline(slots)? > now {
            return None;
        }
        let index = self.list.front()?;
        self.list.remove(slots, index);
        Some(index)
    }

    /// When the next connection's time is over.
    pub(super) fn deadline(&self, slots: &Slots<Connection>) -> Option<Nanos> {
        let timeout = self.timeout?;
        let since = slots.at(self.list.front()?).timer_start(self.list_kind);
        Some(since.plus(timeout).plus(Nanos(timeout.0 / 8)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
