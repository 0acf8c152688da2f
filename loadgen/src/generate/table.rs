//! The connections of one thread, and whose time runs out first.

use uring_echo::slots::{Link, Linked, List, Slots};

pub(super) use uring_echo::slots::SlotId;

use crate::generate::connection::Connection;

/// A connection and what its transport still does for it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its state.
    pub(super) connection: Connection,
    /// Operations whose completion is outstanding.
    pub(super) in_flight: InFlight,
    /// It has its outcome and only waits for its last completion.
    pub(super) ended: bool,
    clock: Link,
    clock_since_ns: u64,
}

/// Operations without their completion. A message can come back before the completion of its send
/// is seen, so there may be two sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) connect: bool,
    pub(super) receive: bool,
    pub(super) sends: u8,
}

/// A fixed number of slots. Nothing here allocates after [`Table::new`].
#[derive(Debug)]
pub(super) struct Table {
    slots: Slots<Entry>,
    /// Connections whose clock runs. All clocks run equally long, so the list is in the order of
    /// both their starts and their ends.
    clocks: List<Entry>,
}

impl Entry {
    /// A connection whose connect is in flight.
    pub(super) fn connecting(connection: Connection) -> Self {
        let in_flight = InFlight { connect: true, ..InFlight::default() };
        let clock = Link::UNLINKED;
        Self { connection, in_flight, ended: false, clock, clock_since_ns: 0 }
    }
}

impl Linked for Entry {
    type List = ();

    fn link(&self, (): ()) -> &Link {
        &self.clock
    }

    fn link_mut(&mut self, (): ()) -> &mut Link {
        &mut self.clock
    }
}

impl InFlight {
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

impl Table {
    /// With `capacity` free slots.
    pub(super) fn new(capacity: u32) -> Self {
        Self { slots: Slots::new(capacity), clocks: List::new(()) }
    }

    /// How many slots are taken.
    pub(super) fn taken(&self) -> usize {
        self.slots.used() as usize
    }

    /// The id that the next [`Self::insert`] gives; `None` if all slots are taken.
    pub(super) fn vacant(&self) -> Option<SlotId> {
        self.slots.next_id()
    }

    /// Takes the vacant slot and starts its clock.
    pub(super) fn insert(&mut self, entry: Entry, now_ns: u64) {
        let id = self.slots.insert(entry).expect("the caller saw a vacant slot");
        self.start_clock(id, now_ns);
    }

    /// The connection of this id; `None` if the slot is another's by now.
    pub(super) fn get(&mut self, id: SlotId) -> Option<&mut Entry> {
        self.slots.get_mut(id)
    }

    /// Who has slot `index` now.
    pub(super) fn owner(&self, index: u32) -> Option<SlotId> {
        self.slots.id_at(index)
    }

    /// Vacates the slot; its next owner has another id.
    pub(super) fn remove(&mut self, id: SlotId) -> Option<Entry> {
        self.stop_clock(id);
        self.slots.remove(id)
    }

    /// Gives it the full time again.
    pub(super) fn restart_clock(&mut self, id: SlotId, now_ns: u64) {
        self.stop_clock(id);
        self.start_clock(id, now_ns);
    }

    /// It has all the time in the world.
    pub(super) fn stop_clock(&mut self, id: SlotId) {
        if self.slots.get(id).is_some() {
            self.clocks.remove(&mut self.slots, id.index());
        }
    }

    /// The connection whose clock has run longest, and since when.
    pub(super) fn oldest(&self) -> Option<(SlotId, u64)> {
        let index = self.clocks.front()?;
        Some((self.slots.id_at(index)?, self.slots.at(index).clock_since_ns))
    }

    fn start_clock(&mut self, id: SlotId, now_ns: u64) {
        let Some(entry) = self.slots.get_mut(id) else { return };
        entry.clock_since_ns = now_ns;
        self.clocks.push_back(&mut self.slots, id.index());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::generate::attempt_recorder::AttemptRecorder;

    fn entry() -> Entry {
        let times = AttemptRecorder::new(std::time::Duration::ZERO, true).called(0, 0);
        Entry::connecting(Connection::new(0, times))
    }

    #[test]
    fn a_slot_is_another_one_for_its_next_owner() {
        let mut table = Table::new(1);
        let first = table.vacant().unwrap();
        table.insert(entry(), 5);
        assert_eq!((table.vacant(), table.taken()), (None, 1));
        assert!(table.get(first).is_some() && table.remove(first).is_some());
        let second = table.vacant().unwrap();
        table.insert(entry(), 6);
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        assert!(table.get(second).is_some());
        assert_eq!(table.oldest(), Some((second, 6)));
    }

    #[derive(Clone, Debug)]
    enum Move {
        Insert,
        Remove(prop::sample::Index),
        Restart(prop::sample::Index),
        Stop(prop::sample::Index),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            3 => Just(Move::Insert),
            1 => any::<prop::sample::Index>().prop_map(Move::Remove),
            1 => any::<prop::sample::Index>().prop_map(Move::Restart),
            1 => any::<prop::sample::Index>().prop_map(Move::Stop),
        ];
        proptest::collection::vec(one, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn clocks_run_out_in_the_order_of_their_starts(moves in moves()) {
            let mut table = Table::new(8);
            let (mut owners, mut row) = (Vec::<SlotId>::new(), VecDeque::new());
            for (now_ns, step) in (1..).zip(moves) {
                match step {
                    Move::Insert => {
                        let Some(id) = table.vacant() else { continue };
                        table.insert(entry(), now_ns);
                        owners.push(id);
                        row.push_back((id, now_ns));
                    }
                    Move::Remove(at) if !owners.is_empty() => {
                        let id = owners.swap_remove(at.index(owners.len()));
                        table.remove(id);
                        row.retain(|(other, _)| *other != id);
                    }
                    Move::Restart(at) if !owners.is_empty() => {
                        let id = *at.get(&owners);
                        table.restart_clock(id, now_ns);
                        row.retain(|(other, _)| *other != id);
                        row.push_back((id, now_ns));
                    }
                    Move::Stop(at) if !owners.is_empty() => {
                        let id = *at.get(&owners);
                        table.stop_clock(id);
                        row.retain(|(other, _)| *other != id);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.oldest(), row.front().copied());
                prop_assert_eq!(table.taken(), owners.len());
            }
        }
    }
}
