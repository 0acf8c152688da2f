//! The pool's buffers as the shard sees them: which are held, and which bytes in them are owed.
//!
//! What a connection owes is a [`Chain`]: buffers linked through the table itself, so that a
//! connection needs no memory of its own however much it owes.

use super::rests::{Rest, Rests};
use super::{Action, BufId, Limits, MAX_SPANS, Span};

const NONE: u16 = u16::MAX;

/// Buffers in the order their bytes are owed; before them perhaps a small rest in a shared buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: u16,
    tail: u16,
    count: u16,
    rest: Rest,
    bytes: u32,
}

impl Chain {
    pub(super) const EMPTY: Self =
        Self { head: NONE, tail: NONE, count: 0, rest: Rest::NONE, bytes: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// How many buffers it holds, not counting shared ones.
    pub(super) fn count(&self) -> u16 {
        self.count
    }
}

/// One entry per buffer of the pool.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: Box<[Entry]>,
    size: u32,
    rests: Rests,
    /// Buffers that no connection holds.
    free: u16,
    /// Releases that have not woken a parked connection yet.
    wakes: u16,
    /// Buffers that receives armed again may still take. First receives are not counted.
    reserved: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    len: u32,
    next: u16,
    held: bool,
}

impl Buffers {
    pub(super) fn new(limits: &Limits) -> Self {
        let entry = Entry { offset: 0, len: 0, next: NONE, held: false };
        Self {
            entries: vec![entry; usize::from(limits.buffers)].into_boxed_slice(),
            size: limits.buffer_size,
            rests: Rests::new(limits.buffers, limits.buffer_size),
            free: limits.buffers,
            wakes: 0,
            reserved: 0,
        }
    }

    /// The kernel put `len` bytes at the start of `buf`: it is held until it is released.
    pub(super) fn take(&mut self, buf: BufId, len: u32) {
        assert!(len > 0 && len <= self.size, "{len} bytes in a buffer of {}", self.size);
        let entry = &mut self.entries[usize::from(buf.0)];
        assert!(!entry.held, "{buf:?} was taken twice");
        *entry = Entry { offset: 0, len, next: NONE, held: true };
        self.free -= 1;
        self.wakes = self.wakes.min(self.free);
    }

    /// Gives `buf` back to the pool.
    pub(super) fn release(&mut self, buf: BufId, emit: &mut impl FnMut(Action<'_>)) {
        let entry = &mut self.entries[usize::from(buf.0)];
        assert!(entry.held, "{buf:?} was released twice");
        entry.held = false;
        self.free += 1;
        self.wakes += 1;
        emit(Action::Release { buf });
    }

    /// Adds `buf`, just taken, to the end of `chain`. True if its bytes were copied behind the
    /// last ones and the buffer itself was released.
    pub(super) fn append(
        &mut self,
        chain: &mut Chain,
        buf: BufId,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let len = self.entries[usize::from(buf.0)].len;
        chain.bytes += len;
        if self.fits_behind(chain, len) {
            self.gather(chain, buf, emit);
            return true;
        }
        match chain.tail {
            NONE => chain.head = buf.0,
            tail => self.entries[usize::from(tail)].next = buf.0,
        }
        chain.tail = buf.0;
        chain.count += 1;
        false
    }

    /// The first spans of `chain`, as many as one send takes, and their bytes.
    pub(super) fn spans<'a>(
        &self,
        chain: &Chain,
        room: &'a mut [Span; MAX_SPANS],
    ) -> (&'a [Span], u32) {
        let mut at = chain.head;
        let mut bytes = chain.rest.len();
        let mut count = usize::from(bytes > 0);
        room[0] = chain.rest.span();
        while at != NONE && count < MAX_SPANS {
            let entry = &self.entries[usize::from(at)];
            room[count] = Span { buf: BufId(at), offset: entry.offset, len: entry.len };
            count += 1;
            bytes += entry.len;
            at = entry.next;
        }
        (&room[..count], bytes)
    }

    /// The first `bytes` of `chain` are sent: releases the buffers that are empty now.
    pub(super) fn consume(
        &mut self,
        chain: &mut Chain,
        mut bytes: u32,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        assert!(bytes <= chain.bytes, "{bytes} bytes sent of {} owed", chain.bytes);
        chain.bytes -= bytes;
        if chain.rest.len() > 0 {
            bytes -= chain.rest.consume(bytes);
            if chain.rest.len() == 0 {
                self.free_rest(chain, emit);
            }
        }
        while bytes > 0 {
            let entry = &mut self.entries[usize::from(chain.head)];
            let part = bytes.min(entry.len);
            entry.offset += part;
            entry.len -= part;
            bytes -= part;
            if entry.len == 0 {
                self.pop(chain, emit);
            }
        }
    }

    /// Releases the buffers of `chain`, except for those of its first `keep` bytes: the kernel
    /// still reads them.
    pub(super) fn abandon(
        &mut self,
        chain: &mut Chain,
        keep: u32,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        let mut all = std::mem::replace(chain, Chain::EMPTY);
        if all.rest.len() > 0 {
            all.bytes -= all.rest.len();
            if keep > 0 {
                (chain.rest, chain.bytes) = (all.rest, all.rest.len());
            } else {
                self.free_rest(&mut all, emit);
            }
        }
        while all.count > 0 && chain.bytes < keep {
            self.move_head(&mut all, chain);
        }
        while all.count > 0 {
            all.bytes -= self.entries[usize::from(all.head)].len;
            self.pop(&mut all, emit);
        }
    }

    /// Moves what `chain` owes to a shared buffer if it is one small piece, or shares its buffer.
    /// No send of it is in flight.
    pub(super) fn share(&mut self, chain: &mut Chain, emit: &mut impl FnMut(Action<'_>)) {
        if chain.count != 1 || chain.rest.len() > 0 || chain.bytes > self.rests.cell() {
            return;
        }
        let buf = self.unlink_head(chain);
        let Entry { offset, len, .. } = self.entries[usize::from(buf)];
        let Some(rest) = self.rests.place(len) else {
            chain.rest = self.rests.adopt(buf, offset, len);
            return;
        };
        chain.rest = rest;
        let (buf, Span { buf: to, offset: at, .. }) = (BufId(buf), rest.span());
        emit(Action::Copy { span: Span { buf, offset, len }, to, at });
        self.release(buf, emit);
    }

    /// How many buffers are shared by small rests.
    pub(super) fn shared(&self) -> u16 {
        self.rests.count()
    }

    /// How many buffers no connection holds: they are in the pool, or filled and not reported yet.
    pub(super) fn free(&self) -> u16 {
        self.free
    }

    /// How many buffers are neither held nor reserved.
    pub(super) fn unreserved(&self) -> u16 {
        u16::try_from(u32::from(self.free).saturating_sub(self.reserved)).expect("at most `free`")
    }

    /// A receive is armed again for up to `count` buffers.
    pub(super) fn reserve(&mut self, count: u8) {
        self.reserved += u32::from(count);
    }

    /// It has taken `count` of them, or has ended without them.
    pub(super) fn unreserve(&mut self, count: u8) {
        assert!(self.reserved >= u32::from(count), "nothing was reserved");
        self.reserved -= u32::from(count);
    }

    /// Whether `buf` was filled to its end.
    pub(super) fn is_full(&self, buf: BufId) -> bool {
        self.entries[usize::from(buf.0)].len == self.size
    }

    pub(super) fn all_free(&self) -> bool {
        usize::from(self.free) == self.entries.len() && self.reserved == 0
    }

    /// Uses up one release that has woken no connection yet; false if there is none.
    pub(super) fn take_wake(&mut self) -> bool {
        let any = self.wakes > 0;
        self.wakes = self.wakes.saturating_sub(1);
        any
    }

    /// A connection that was woken did not take a buffer after all: another may be woken for it.
    pub(super) fn return_wake(&mut self) {
        self.wakes = self.free.min(self.wakes + 1);
    }

    /// Counts every free buffer as released anew.
    pub(super) fn renew_wakes(&mut self) {
        self.wakes = self.free;
    }

    /// Panics unless the totals of `chain` match its buffers.
    pub(super) fn assert_sound(&self, chain: &Chain) {
        let (mut at, mut count, mut bytes, mut last) = (chain.head, 0, chain.rest.len(), NONE);
        while at != NONE {
            let entry = &self.entries[usize::from(at)];
            assert!(entry.held && entry.len > 0, "a chain holds an empty or lost buffer {at}");
            count += 1;
            bytes += entry.len;
            last = at;
            at = entry.next;
        }
        assert_eq!((count, bytes, last), (chain.count, chain.bytes, chain.tail));
    }

    /// Whether `len` bytes are to be copied behind the last ones of `chain`.
    ///
    /// Only pieces of at most half a buffer: two of them fit in one, and with larger ones left
    /// alone at least half of what a connection holds is bytes, which is what bounds the pool.
    /// A larger limit would copy more for little.
    fn fits_behind(&self, chain: &Chain, len: u32) -> bool {
        if chain.tail == NONE || len > self.size / 2 {
            return false;
        }
        let tail = &self.entries[usize::from(chain.tail)];
        self.size - (tail.offset + tail.len) >= len
    }

    /// Legal while the kernel sends the tail's earlier bytes: it reads only those.
    fn gather(&mut self, chain: &Chain, buf: BufId, emit: &mut impl FnMut(Action<'_>)) {
        let len = self.entries[usize::from(buf.0)].len;
        let tail = &mut self.entries[usize::from(chain.tail)];
        let at = tail.offset + tail.len;
        tail.len += len;
        emit(Action::Copy { span: Span { buf, offset: 0, len }, to: BufId(chain.tail), at });
        self.release(buf, emit);
    }

    fn free_rest(&mut self, chain: &mut Chain, emit: &mut impl FnMut(Action<'_>)) {
        let rest = std::mem::replace(&mut chain.rest, Rest::NONE);
        if let Some(buf) = self.rests.free(rest) {
            self.release(buf, emit);
        }
    }

    fn pop(&mut self, chain: &mut Chain, emit: &mut impl FnMut(Action<'_>)) {
        let head = self.unlink_head(chain);
        self.release(BufId(head), emit);
    }

    fn move_head(&mut self, from: &mut Chain, to: &mut Chain) {
        let head = self.unlink_head(from);
        let entry = &mut self.entries[usize::from(head)];
        entry.next = NONE;
        from.bytes -= entry.len;
        to.bytes += entry.len;
        to.count += 1;
        match to.tail {
            NONE => to.head = head,
            tail => self.entries[usize::from(tail)].next = head,
        }
        to.tail = head;
    }

    fn unlink_head(&self, chain: &mut Chain) -> u16 {
        let head = chain.head;
        chain.head = self.entries[usize::from(head)].next;
        chain.count -= 1;
        if chain.count == 0 {
            chain.tail = NONE;
        }
        head
    }
}
