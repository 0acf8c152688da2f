//! Buffers shared by small rests of sends.
//!
//! A peer that reads slowly leaves a rest of a send behind, often of a few bytes. Alone in a buffer
//! it would occupy a whole one for as long as the peer likes. So small rests are gathered: a shared
//! buffer is divided into cells, and each rest has one, or two if it stays where the kernel put it.

use super::{BufId, Span};

const NONE: u16 = u16::MAX;

/// Cells of a shared buffer, at most.
const CELLS: u32 = 16;

/// A small rest in a shared buffer, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    buf: u16,
    /// One bit for each cell it occupies.
    cells: u16,
    offset: u16,
    len: u16,
}

impl Rest {
    pub(super) const NONE: Self = Self { buf: NONE, cells: 0, offset: 0, len: 0 };

    pub(super) fn len(self) -> u32 {
        u32::from(self.len)
    }

    pub(super) fn span(self) -> Span {
        Span { buf: BufId(self.buf), offset: u32::from(self.offset), len: self.len() }
    }

    /// The first bytes are sent, as many as there are of `bytes`; returns how many.
    pub(super) fn consume(&mut self, bytes: u32) -> u32 {
        let part = self.len.min(u16::try_from(bytes).unwrap_or(u16::MAX));
        self.offset += part;
        self.len -= part;
        u32::from(part)
    }
}

/// The shared buffers.
#[derive(Debug)]
pub(super) struct Rests {
    buffers: Box<[Shared]>,
    size: u32,
    cell: u32,
    /// Shared buffers with a free cell, linked.
    with_room: u16,
    /// How many buffers are shared.
    count: u16,
}

#[derive(Clone, Copy, Debug)]
struct Shared {
    /// One bit for each cell in use; 0: not a shared buffer.
    used: u16,
    prev: u16,
    next: u16,
}

impl Rests {
    pub(super) fn new(buffers: u16, size: u32) -> Self {
        let none = Shared { used: 0, prev: NONE, next: NONE };
        Self {
            buffers: vec![none; usize::from(buffers)].into_boxed_slice(),
            size,
            cell: size.div_ceil(CELLS),
            with_room: NONE,
            count: 0,
        }
    }

    /// The longest rest that is kept in a cell.
    pub(super) fn cell(&self) -> u32 {
        self.cell
    }

    /// How many buffers are shared.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// A free cell for a rest of `len` bytes, if a shared buffer has one.
    pub(super) fn place(&mut self, len: u32) -> Option<Rest> {
        assert!(len <= self.cell, "a rest of {len} bytes");
        let buf = self.with_room;
        let used = self.buffers.get(usize::from(buf))?.used;
        let index = (!used & self.usable()).trailing_zeros();
        let cells = 1 << index;
        self.buffers[usize::from(buf)].used |= cells;
        if !self.has_room(buf) {
            self.unlink(buf);
        }
        Some(rest(buf, cells, index * self.cell, len))
    }

    /// Makes `buf` a shared buffer, with the rest that is in it.
    pub(super) fn adopt(&mut self, buf: u16, offset: u32, len: u32) -> Rest {
        assert!(len > 0 && len <= self.cell, "a rest of {len} bytes");
        let (first, last) = (offset / self.cell, (offset + len - 1) / self.cell);
        let cells = (first..=last).fold(0, |cells, index| cells | 1 << index);
        self.buffers[usize::from(buf)].used = cells;
        self.count += 1;
        if self.has_room(buf) {
            self.link(buf);
        }
        rest(buf, cells, offset, len)
    }

    /// Frees the cells of `rest`; its buffer, if that is shared no more.
    pub(super) fn free(&mut self, rest: Rest) -> Option<BufId> {
        let had_room = self.has_room(rest.buf);
        let shared = &mut self.buffers[usize::from(rest.buf)];
        assert_eq!(shared.used & rest.cells, rest.cells, "{rest:?} was freed twice");
        shared.used &= !rest.cells;
        if shared.used != 0 {
            if !had_room && self.has_room(rest.buf) {
                self.link(rest.buf);
            }
            return None;
        }
        if had_room {
            self.unlink(rest.buf);
        }
        self.count -= 1;
        Some(BufId(rest.buf))
    }

    /// The cells that are whole.
    fn usable(&self) -> u16 {
        u16::MAX >> (16 - self.size / self.cell)
    }

    fn has_room(&self, buf: u16) -> bool {
        self.buffers[usize::from(buf)].used & self.usable() != self.usable()
    }

    fn link(&mut self, buf: u16) {
        let next = std::mem::replace(&mut self.with_room, buf);
        let shared = &mut self.buffers[usize::from(buf)];
        (shared.prev, shared.next) = (NONE, next);
        if next != NONE {
            self.buffers[usize::from(next)].prev = buf;
        }
    }

    fn unlink(&mut self, buf: u16) {
        let Shared { prev, next, .. } = self.buffers[usize::from(buf)];
        match prev {
            NONE => self.with_room = next,
            prev => self.buffers[usize::from(prev)].next = next,
        }
        if next != NONE {
            self.buffers[usize::from(next)].prev = prev;
        }
    }
}

fn rest(buf: u16, cells: u16, offset: u32, len: u32) -> Rest {
    let short = |n: u32| u16::try_from(n).expect("inside a buffer of at most 64 KiB");
    Rest { buf, cells, offset: short(offset), len: short(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_shared_until_its_last_rest_is_gone() {
        let mut rests = Rests::new(2, 64);
        assert!(rests.place(1).is_none(), "nothing is shared yet");
        let first = rests.adopt(0, 62, 2);
        let others: Vec<_> = (0..15).map(|_| rests.place(4).expect("a free cell")).collect();
        assert!(rests.place(1).is_none(), "all cells are in use");
        assert!(rests.free(first).is_none());
        let again = rests.place(3).expect("the freed cell").span();
        assert_eq!(again, Span { buf: BufId(0), offset: 60, len: 3 });
        let left: Vec<_> = others.into_iter().filter_map(|rest| rests.free(rest)).collect();
        assert!(left.is_empty() && rests.count() == 1, "one rest is left");
    }

    #[test]
    fn buffers_with_room_are_found_in_any_order() {
        let mut rests = Rests::new(3, 16);
        let adopted: Vec<_> = (0..3).map(|buf| rests.adopt(buf, 0, 1)).collect();
        assert_eq!(rests.free(adopted[1]), Some(BufId(1)));
        assert_eq!(rests.free(adopted[2]), Some(BufId(2)));
        assert_eq!(rests.place(1).expect("in the first").span().buf, BufId(0));
        assert_eq!(rests.free(adopted[0]), None);
        assert_eq!(rests.count(), 1);
    }

    #[test]
    fn a_rest_between_two_cells_occupies_both() {
        let mut rests = Rests::new(1, 64);
        let across = rests.adopt(0, 2, 4);
        assert_eq!(rests.place(4).expect("the third").span().offset, 8);
        assert!(rests.free(across).is_none());
        assert_eq!(rests.place(4).expect("the first").span().offset, 0);
    }

    #[test]
    fn buffers_smaller_than_the_number_of_cells_have_cells_of_a_byte() {
        let mut rests = Rests::new(1, 3);
        let first = rests.adopt(0, 2, 1);
        let second = rests.place(1).expect("a byte");
        let third = rests.place(1).expect("a byte");
        assert!(rests.place(1).is_none());
        assert_eq!(
            [first, second, third].map(|rest| rests.free(rest)),
            [None, None, Some(BufId(0))]
        );
    }
}
