//! Connections that wait for a buffer because the pool was empty, first in, first out.
//!
//! Each released buffer wakes one of them, and nothing else does, so that no receive is armed in a
//! loop on an empty pool. A release while nobody waits is kept for the next connection that parks;
//! if the woken connection ends its receive without a buffer, the next one is woken for it. A
//! connection could still wait beside a free buffer: the one that was woken may have nothing to
//! read for a long time. Therefore every free buffer wakes a connection again after a while.

use super::buffers::Buffers;
use super::connection::{Connection, ListKind};
use super::{Action, Nanos};
use crate::slots::{List, Slots};

#[derive(Debug)]
pub(super) struct Parked {
    list: List<Connection>,
    retry_after: Nanos,
    retry_at: Nanos,
}

impl Parked {
    pub(super) fn new(retry_after: Nanos) -> Self {
        Self { list: List::new(ListKind::Parked), retry_after, retry_at: Nanos(0) }
    }

    pub(super) fn push(&mut self, slots: &mut Slots<Connection>, index: u32, now: Nanos) {
        if self.list.is_empty() {
            self.retry_at = now.plus(self.retry_after);
        }
        self.list.push_back(slots, index);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots<Connection>, index: u32) {
        self.list.remove(slots, index);
    }

    /// Wakes one connection per buffer released since the last call.
    pub(super) fn wake(
        &mut self,
        slots: &mut Slots<Connection>,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        while let Some(index) = self.list.front() {
            if !buffers.take_wake() {
                return;
            }
            self.list.remove(slots, index);
            let id = slots.id_at(index).expect("a parked connection is open");
            slots.at_mut(index).wake(id, buffers, emit);
        }
    }

    /// When to try again although nothing was released.
    pub(super) fn deadline(&self, buffers: &Buffers) -> Option<Nanos> {
        (!self.list.is_empty() && buffers.free() > 0).then_some(self.retry_at)
    }

    /// Time passed: once the deadline is reached, every free buffer counts as released again.
    pub(super) fn tick(&mut self, buffers: &mut Buffers, now: Nanos) {
        if self.deadline(buffers).is_some_and(|at| at <= now) {
            self.retry_at = now.plus(self.retry_after);
            buffers.renew_wakes();
        }
    }

    pub(super) fn contains(&self, slots: &Slots<Connection>, index: u32) -> bool {
        self.list.contains(slots, index)
    }

    pub(super) fn len(&self) -> u32 {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
