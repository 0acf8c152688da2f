//! The connections of one thread: slots with generations, and whose time runs out first.

use crate::generate::connection::Connection;

/// Names a slot and its present owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId {
    /// Which slot.
    pub(super) index: u32,
    /// Which of its owners, one after the other.
    pub(super) generation: u32,
}

/// A connection and what its transport still does for it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its state.
    pub(super) connection: Connection,
    /// Operations whose completion is outstanding.
    pub(super) in_flight: InFlight,
    /// It has its outcome and only waits for its last completion.
    pub(super) ended: bool,
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
    slots: Box<[Slot]>,
    free: Vec<u32>,
    /// The connection whose clock was started longest ago.
    oldest: Option<u32>,
    newest: Option<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
    clock: Option<Clock>,
}

/// A place in the row of running clocks. All run equally long, so the row is in order of both
/// their starts and their ends.
#[derive(Clone, Copy, Debug)]
struct Clock {
    since_ns: u64,
    older: Option<u32>,
    newer: Option<u32>,
}

impl Entry {
    /// A connection whose connect is in flight.
    pub(super) fn connecting(connection: Connection) -> Self {
        let in_flight = InFlight { connect: true, ..InFlight::default() };
        Self { connection, in_flight, ended: false }
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
        let slot = |_| Slot { generation: 0, entry: None, clock: None };
        Self {
            slots: (0..capacity).map(slot).collect(),
            free: (0..capacity).rev().collect(),
            oldest: None,
            newest: None,
        }
    }

    /// How many slots are taken.
    pub(super) fn taken(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The slot that the next [`Self::insert`] takes; `None` if all are taken.
    pub(super) fn vacant(&self) -> Option<SlotId> {
        let &index = self.free.last()?;
        Some(SlotId { index, generation: self.slots[index as usize].generation })
    }

    /// Takes the vacant slot and starts its clock.
    pub(super) fn insert(&mut self, entry: Entry, now_ns: u64) {
        let index = self.free.pop().expect("the caller saw a vacant slot");
        self.slots[index as usize].entry = Some(entry);
        self.start_clock(index, now_ns);
    }

    /// The present owner; `None` if that is another by now.
    pub(super) fn get(&mut self, id: SlotId) -> Option<&mut Entry> {
        let slot = &mut self.slots[id.index as usize];
        slot.entry.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Who has slot `index` now.
    pub(super) fn owner(&self, index: u32) -> SlotId {
        SlotId { index, generation: self.slots[index as usize].generation }
    }

    /// Vacates the slot; its next owner has another generation.
    pub(super) fn remove(&mut self, id: SlotId) -> Option<Entry> {
        self.get(id)?;
        self.stop_clock(id);
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1) % uring_echo::ring::Token::GENERATIONS;
        self.free.push(id.index);
        slot.entry.take()
    }

    /// Gives it the full time again.
    pub(super) fn restart_clock(&mut self, id: SlotId, now_ns: u64) {
        self.stop_clock(id);
        self.start_clock(id.index, now_ns);
    }

    /// It has all the time in the world.
    pub(super) fn stop_clock(&mut self, id: SlotId) {
        let Some(clock) = self.slots[id.index as usize].clock.take() else { return };
        match clock.older {
            Some(older) => self.clock_of(older).newer = clock.newer,
            None => self.oldest = clock.newer,
        }
        match clock.newer {
            Some(newer) => self.clock_of(newer).older = clock.older,
            None => self.newest = clock.older,
        }
    }

    /// The connection whose clock has run longest, and since when.
    pub(super) fn oldest(&self) -> Option<(SlotId, u64)> {
        let index = self.oldest?;
        let clock = self.slots[index as usize].clock?;
        Some((self.owner(index), clock.since_ns))
    }

    fn start_clock(&mut self, index: u32, now_ns: u64) {
        let older = self.newest.replace(index);
        self.slots[index as usize].clock = Some(Clock { since_ns: now_ns, older, newer: None });
        match older {
            Some(older) => self.clock_of(older).newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    fn clock_of(&mut self, index: u32) -> &mut Clock {
        self.slots[index as usize].clock.as_mut().expect("neighbours in the row have clocks")
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
