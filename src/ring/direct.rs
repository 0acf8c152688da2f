//! The table of direct descriptors: which of its slots have a socket.

use io_uring::types::Fixed;

/// A socket in the ring's table of direct descriptors, from its accept to its close.
///
/// Only [`Ring::direct`](super::Ring::direct) hands one out. Once the close is asked for it names
/// nothing, whoever has its slot next: operations on it fail with EBADF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    slot: u32,
    turn: u16,
}

/// How often each slot was opened and closed: it has a socket while the number is odd.
#[derive(Debug)]
pub(super) struct DirectTable {
    turns: Box<[u16]>,
}

impl DirectTable {
    pub(super) fn new(slots: u32) -> Self {
        Self { turns: vec![0; slots as usize].into_boxed_slice() }
    }

    /// The kernel has put a socket into `slot`.
    pub(super) fn opened(&mut self, slot: u32) {
        let turn = &mut self.turns[slot as usize];
        *turn = turn.wrapping_add(1) | 1;
    }

    /// The present socket of `slot`; if it has none, what names nothing.
    pub(super) fn get(&self, slot: u32) -> Direct {
        Direct { slot, turn: self.turns.get(slot as usize).copied().unwrap_or(0) }
    }

    /// The close of `socket` is asked for.
    pub(super) fn close(&mut self, socket: Direct) -> Fixed {
        let slot = self.slot(socket);
        if let Some(turn) = self.turns.get_mut(slot.0 as usize) {
            *turn = turn.wrapping_add(1);
        }
        slot
    }

    /// The slot for a submission entry: one beyond the table if `socket` is closed, which the
    /// kernel refuses.
    pub(super) fn slot(&self, socket: Direct) -> Fixed {
        let is_open = socket.turn % 2 == 1 && self.get(socket.slot) == socket;
        Fixed(if is_open { socket.slot } else { u32::try_from(self.turns.len()).expect("a u32") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_socket_names_nothing_although_its_slot_is_used_again() {
        let mut table = DirectTable::new(2);
        let nothing = 2;
        assert_eq!(table.slot(table.get(1)).0, nothing, "never opened");
        assert_eq!(table.slot(table.get(7)).0, nothing, "beyond the table");
        table.opened(1);
        let first = table.get(1);
        assert_eq!(table.slot(first).0, 1);
        assert_eq!(table.close(first).0, 1);
        assert_eq!(table.slot(first).0, nothing);
        table.opened(1);
        assert_eq!(table.slot(first).0, nothing, "the slot has another socket");
        assert_eq!(table.close(first).0, nothing, "which the stale one does not close");
        assert_eq!(table.slot(table.get(1)).0, 1);
    }
}
