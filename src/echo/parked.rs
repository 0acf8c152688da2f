//! Connections that found the pool empty, in the order they did.
//!
//! Each buffer that comes home wakes one of them, and nothing else does, so that an empty pool is
//! never asked in a loop: a release nobody waited for is kept and wakes the next who comes, and
//! one whose claimant ended without a buffer goes to the next in line. That alone could leave a
//! connection waiting beside a buffer, when the one woken has nothing to read for now and says
//! nothing; so now and then every buffer at home wakes one again.

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

    /// Wakes one connection per buffer released since.
    pub(super) fn wake(
        &mut self,
        slots: &mut Slots<Connection>,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        while let Some(index) = self.list.front() {
            if !buffers.claim_release() {
                return;
            }
            self.list.remove(slots, index);
            let id = slots.id_at(index).expect("who is parked is open");
            slots.at_mut(index).wake(id, buffers, emit);
        }
    }

    /// When to try again although nothing was released.
    pub(super) fn deadline(&self, buffers: &Buffers) -> Option<Nanos> {
        (!self.list.is_empty() && buffers.home() > 0).then_some(self.retry_at)
    }

    /// Time passed: if it is time to try again, every buffer at home counts as released.
    pub(super) fn tick(&mut self, buffers: &mut Buffers, now: Nanos) {
        if self.deadline(buffers).is_some_and(|at| at <= now) {
            self.retry_at = now.plus(self.retry_after);
            buffers.renew_claims();
        }
    }

    pub(super) fn contains(&self, slots: &Slots<Connection>, index: u32) -> bool {
        self.list.contains(slots, index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
