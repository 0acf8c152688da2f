//! The pool's memory, the owner of each buffer, and whose unsent byte each byte is.

use std::collections::VecDeque;

use uring_echo::echo::{BufId, Limits, Span};

const POISON: u8 = 0xDD;

#[derive(Debug)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    size: u32,
    owners: Vec<Owner>,
    /// Sends that read from each buffer.
    sends: Vec<u32>,
    /// The socket to whose client each byte is owed.
    owed: Vec<Option<usize>>,
    /// By socket, how many bytes are owed in each buffer.
    held: Vec<Vec<u32>>,
    pool: VecDeque<BufId>,
    /// Copies into a buffer with bytes owed to others.
    pub(crate) shared: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Pool,
    /// Filled, its event not delivered to the shard.
    Kernel,
    Shard,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let size = limits.buffer_size as usize * usize::from(limits.buffers);
        Self {
            bytes: vec![POISON; size],
            size: limits.buffer_size,
            owners: vec![Owner::Pool; usize::from(limits.buffers)],
            sends: vec![0; usize::from(limits.buffers)],
            owed: vec![None; size],
            held: Vec::new(),
            pool: (0..limits.buffers).map(BufId).collect(),
            shared: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    pub(crate) fn all_free(&self) -> bool {
        self.pool.len() == self.owners.len()
    }

    /// The shard has every buffer.
    pub(crate) fn all_taken(&self) -> bool {
        self.owners.iter().all(|owner| *owner == Owner::Shard)
    }

    /// How many buffers `socket` holds, small rests apart: those may be in shared ones.
    pub(crate) fn held(&self, socket: usize) -> u32 {
        let rest = self.size.div_ceil(16);
        let held = self.held.get(socket).into_iter().flatten().filter(|bytes| **bytes > rest);
        u32::try_from(held.count()).expect("few buffers")
    }

    /// Whether any byte in the pool is owed to `socket`'s client.
    pub(crate) fn holds(&self, socket: usize) -> bool {
        self.held.get(socket).into_iter().flatten().any(|bytes| *bytes > 0)
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

    /// The shard is given `buf`, with `len` bytes for `holder`.
    pub(crate) fn hand_to_shard(&mut self, buf: BufId, len: u32, holder: Option<usize>) {
        self.change_owner(buf, Owner::Kernel, Owner::Shard);
        self.owe(Span { buf, offset: 0, len }, holder);
    }

    pub(crate) fn release(&mut self, buf: BufId) {
        assert_eq!(self.sends[usize::from(buf.0)], 0, "{buf:?} is released while it is sent");
        self.change_owner(buf, Owner::Shard, Owner::Pool);
        self.owe(Span { buf, offset: 0, len: self.size }, None);
        let (start, end) = (self.place(buf, 0), self.place(buf, 0) + self.size as usize);
        self.bytes[start..end].fill(POISON);
        self.pool.push_back(buf);
    }

    pub(crate) fn begin_send(&mut self, span: &Span, holder: usize) {
        assert!(span.len > 0, "an empty span is sent");
        assert!(span.offset + span.len <= self.size, "{span:?} is beyond its buffer");
        assert!(self.is_owed(span, holder), "a send of somebody else's bytes");
        assert_eq!(self.owner(span.buf), Owner::Shard, "{span:?} is sent");
        self.sends[usize::from(span.buf.0)] += 1;
    }

    pub(crate) fn end_send(&mut self, span: &Span) {
        self.sends[usize::from(span.buf.0)] -= 1;
    }

    /// Byte `nth` of `span` leaves.
    pub(crate) fn transmit(&mut self, span: &Span, nth: u32) -> u8 {
        let place = self.place(span.buf, span.offset + nth);
        self.owe(Span { buf: span.buf, offset: span.offset + nth, len: 1 }, None);
        self.bytes[place]
    }

    pub(crate) fn copy(&mut self, span: &Span, to: BufId, at: u32) {
        assert_eq!(self.owner(span.buf), Owner::Shard, "copied from {span:?}");
        assert_eq!(self.owner(to), Owner::Shard, "copied into {to:?}, which is somebody else's");
        assert_eq!(self.sends[usize::from(span.buf.0)], 0, "{span:?} is copied while it is sent");
        assert!(
            span.buf != to && span.offset + span.len <= self.size && at + span.len <= self.size
        );
        let holder = self.owed[self.place(span.buf, span.offset)];
        let target = Span { buf: to, offset: at, len: span.len };
        assert!(holder.is_some_and(|holder| self.is_owed(span, holder)), "{span:?} is not owed");
        let places = self.place(to, 0)..self.place(to, 0) + self.size as usize;
        self.shared += u64::from(self.owed[places].iter().flatten().any(|of| Some(*of) != holder));
        for nth in 0..span.len {
            let (from, to) = (self.place(span.buf, span.offset + nth), self.place(to, at + nth));
            assert_eq!(self.owed[to], None, "{span:?} is copied over somebody's bytes");
            self.bytes[to] = self.bytes[from];
        }
        self.owe(*span, None);
        self.owe(target, holder);
    }

    /// Nothing is owed to the client of `socket` any more.
    pub(crate) fn forget(&mut self, socket: usize) {
        self.owed.iter_mut().filter(|of| **of == Some(socket)).for_each(|of| *of = None);
        self.held.get_mut(socket).into_iter().flatten().for_each(|bytes| *bytes = 0);
    }

    fn is_owed(&self, span: &Span, holder: usize) -> bool {
        (0..span.len).all(|nth| self.owed[self.place(span.buf, span.offset + nth)] == Some(holder))
    }

    /// The bytes of `span` are owed to the client of `holder`, or not any more.
    fn owe(&mut self, span: Span, holder: Option<usize>) {
        for nth in 0..span.len {
            let place = self.place(span.buf, span.offset + nth);
            if let Some(before) = std::mem::replace(&mut self.owed[place], holder) {
                self.held[before][usize::from(span.buf.0)] -= 1;
            }
            if let Some(holder) = holder {
                let sockets = self.held.len().max(holder + 1);
                self.held.resize_with(sockets, || vec![0; self.owners.len()]);
                self.held[holder][usize::from(span.buf.0)] += 1;
            }
        }
    }

    fn owner(&self, buf: BufId) -> Owner {
        self.owners[usize::from(buf.0)]
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
