//! The pool's memory, and the owner of each buffer.

use std::collections::VecDeque;

use uring_echo::echo::{BufId, Limits, Span};

const POISON: u8 = 0xDD;

#[derive(Debug)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    size: u32,
    owners: Vec<Owner>,
    /// The socket whose bytes are in each.
    holders: Vec<Option<usize>>,
    pool: VecDeque<BufId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Pool,
    /// Filled, its event not delivered to the shard.
    Kernel,
    Shard,
    /// The shard's, and read by a send.
    Sending,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let size = limits.buffer_size as usize;
        Self {
            bytes: vec![POISON; size * usize::from(limits.buffers)],
            size: limits.buffer_size,
            owners: vec![Owner::Pool; usize::from(limits.buffers)],
            holders: vec![None; usize::from(limits.buffers)],
            pool: (0..limits.buffers).map(BufId).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    pub(crate) fn all_free(&self) -> bool {
        self.pool.len() == self.owners.len()
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The kernel takes a buffer and writes `len` bytes to its start.
    pub(crate) fn fill(&mut self, len: u32, byte: impl Fn(u32) -> u8) -> BufId {
        let buf = self.pool.pop_front().expect("the pool is not empty");
        self.change_owner(buf, Owner::Pool, Owner::Kernel);
        for at in 0..len {
            let place = self.place(buf, at);
            self.bytes[place] = byte(at);
        }
        buf
    }

    /// The shard is given `buf`, with bytes for `holder`.
    pub(crate) fn hand_to_shard(&mut self, buf: BufId, holder: Option<usize>) {
        self.holders[usize::from(buf.0)] = holder;
        self.change_owner(buf, Owner::Kernel, Owner::Shard);
    }

    /// Returns whose bytes were in it.
    pub(crate) fn release(&mut self, buf: BufId) -> Option<usize> {
        self.change_owner(buf, Owner::Shard, Owner::Pool);
        let (start, end) = (self.place(buf, 0), self.place(buf, 0) + self.size as usize);
        self.bytes[start..end].fill(POISON);
        self.pool.push_back(buf);
        self.holders[usize::from(buf.0)].take()
    }

    pub(crate) fn begin_send(&mut self, span: &Span, holder: usize) {
        assert_eq!(self.holder(span.buf), Some(holder), "a send of somebody else's bytes");
        assert!(span.len > 0, "an empty span is sent");
        assert!(span.offset + span.len <= self.size, "{span:?} is beyond its buffer");
        self.change_owner(span.buf, Owner::Shard, Owner::Sending);
    }

    pub(crate) fn end_send(&mut self, span: &Span) {
        self.change_owner(span.buf, Owner::Sending, Owner::Shard);
    }

    pub(crate) fn byte(&self, span: &Span, nth: u32) -> u8 {
        self.bytes[self.place(span.buf, span.offset + nth)]
    }

    pub(crate) fn copy(&mut self, span: &Span, to: BufId, at: u32) {
        assert_eq!(self.owner(span.buf), Owner::Shard, "copied from {span:?}");
        assert_eq!(self.holder(span.buf), self.holder(to), "copied to somebody else");
        assert!(
            matches!(self.owner(to), Owner::Shard | Owner::Sending),
            "copied into {to:?}, which is somebody else's"
        );
        assert!(
            span.buf != to && span.offset + span.len <= self.size && at + span.len <= self.size
        );
        for nth in 0..span.len {
            let place = self.place(to, at + nth);
            self.bytes[place] = self.byte(span, nth);
        }
    }

    fn owner(&self, buf: BufId) -> Owner {
        self.owners[usize::from(buf.0)]
    }

    fn holder(&self, buf: BufId) -> Option<usize> {
        self.holders[usize::from(buf.0)]
    }

    fn change_owner(&mut self, buf: BufId, from: Owner, to: Owner) {
        let owner = &mut self.owners[usize::from(buf.0)];
        assert_eq!(*owner, from, "{buf:?} cannot go to {to:?}");
        *owner = to;
    }

    fn place(&self, buf: BufId, at: u32) -> usize {
        (u32::from(buf.0) * self.size + at) as usize
    }
}
