//! One timeout for all connections. Because it is the same for each, the connection that was active
//! longest ago is always first, and keeping them in order costs O(1).

use super::Nanos;
use super::connection::{Connection, ListKind};
use crate::slots::{List, Slots};

/// Connections in the order of their last activity, and the timeout.
///
/// Activity within 1/8 of the timeout after the last restart does not restart the timer, so a busy
/// connection is moved at most eight times per timeout instead of once per message. In exchange
/// the timer expires up to 1/8 late, never early.
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

    /// Connection `index` is active at `now`: restarts its timer.
    pub(super) fn restart(&mut self, slots: &mut Slots<Connection>, index: u32, now: Nanos) {
        let Some(timeout) = self.timeout else { return };
        if self.list.contains(slots, index) {
            let start = *slots.at_mut(index).timer_start_mut(self.list_kind);
            if now.0.saturating_sub(start.0) <= timeout.0 / 8 {
                return;
            }
            self.list.remove(slots, index);
        }
        *slots.at_mut(index).timer_start_mut(self.list_kind) = now;
        self.list.push_back(slots, index);
    }

    /// Connection `index` starts to wait at `now`, exactly.
    pub(super) fn begin(&mut self, slots: &mut Slots<Connection>, index: u32, now: Nanos) {
        self.list.remove(slots, index);
        *slots.at_mut(index).timer_start_mut(self.list_kind) = now;
        if self.timeout.is_some() {
            self.list.push_back(slots, index);
        }
    }

    pub(super) fn remove(&mut self, slots: &mut Slots<Connection>, index: u32) {
        self.list.remove(slots, index);
    }

    /// Removes and returns one connection whose timer has expired.
    pub(super) fn expired(&mut self, slots: &mut Slots<Connection>, now: Nanos) -> Option<u32> {
        if self.deadline(slots)? > now {
            return None;
        }
        let index = self.list.front()?;
        self.list.remove(slots, index);
        Some(index)
    }

    /// When the next timer expires.
    pub(super) fn deadline(&self, slots: &Slots<Connection>) -> Option<Nanos> {
        let timeout = self.timeout?;
        let start = slots.at(self.list.front()?).timer_start(self.list_kind);
        Some(start.plus(timeout).plus(Nanos(timeout.0 / 8)))
    }

    pub(super) fn contains(&self, slots: &Slots<Connection>, index: u32) -> bool {
        self.list.contains(slots, index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
