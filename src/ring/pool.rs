//! The receive buffers: memory lent to the kernel through a provided-buffer ring.
//!
//! A buffer is either *free* or *held* (its bytes are ours until [`Pool::release`]). The pool keeps
//! track of that, so that safe code can neither read a buffer that the kernel may be writing nor
//! release one twice.
//!
//! Of the free buffers only a few more than recently needed at once are *provided* to the kernel,
//! the last released first. The kernel uses them in the order in which they were provided: with all
//! of them provided, every receive would land in the memory that has been out of the caches for
//! longest.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::region::Region;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// `count` buffers of `size` bytes, and the ring that provides them to the kernel
/// (io_uring_register_buf_ring(3), Linux 5.19).
#[derive(Debug)]
pub(super) struct Pool {
    entries: Region,
    memory: Region,
    slots: u16,
    count: u16,
    size: u32,
    tail: u16,
    held: Box<[bool]>,
    /// Where in the buffer ring each was provided last.
    slot_of: Box<[u16]>,
    /// Free and not provided, the last released on top.
    spare: Vec<u16>,
    provided: u16,
    /// How many the kernel used since the last [`Self::provide`].
    used: u16,
    demand: Demand,
}

/// One buffer of those that a receive has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) buf: u16,
    pub(super) len: u32,
    /// Bytes in the buffers after it.
    pub(super) left: u32,
}

/// How many buffers are to be provided: twice the recent maximum used between two calls of
/// [`Pool::provide`].
#[derive(Debug)]
struct Demand {
    target: u16,
    most: u16,
    /// Maxima of this period and the one before it.
    peaks: [u16; 2],
    /// Calls in this period.
    calls: u32,
}

impl Demand {
    const LEAST: u16 = 8;
    /// Calls in a period: a maximum is remembered for one to two of them.
    const PERIOD: u32 = 1024;

    fn new(most: u16) -> Self {
        Self { target: most.min(Self::LEAST), most, peaks: [0; 2], calls: 0 }
    }

    /// More buffers were needed than provided.
    fn record_shortage(&mut self) {
        self.peaks[0] = self.most;
        self.target = self.most;
    }

    fn record(&mut self, used: u16) {
        self.peaks[0] = self.peaks[0].max(used);
        self.calls += 1;
        if self.calls == Self::PERIOD {
            self.target = 0;
            self.peaks = [0, self.peaks[0].max(used)];
            self.calls = 0;
        }
        let peak = self.peaks[0].max(self.peaks[1]);
        let wanted = peak.saturating_mul(2).max(Self::LEAST).min(self.most);
        self.target = self.target.max(wanted);
    }
}

impl Pool {
    /// Allocates the pool, with nothing provided before [`Self::register`].
    pub(super) fn new(count: u16, size: u32) -> Self {
        assert!(count <= 1 << 15, "a buffer ring has at most 32768 entries");
        let slots = count.max(1).next_power_of_two();
        let entries = Region::new(usize::from(slots) * size_of::<BufRingEntry>());
        let memory = Region::lazy(usize::from(count) * size as usize);
        let held = vec![false; usize::from(count)].into_boxed_slice();
        let spare = (0..count).rev().collect();
        let slot_of = vec![0; usize::from(count)].into_boxed_slice();
        let demand = Demand::new(count);
        let (tail, provided, used) = (0, 0, 0);
        Self {
            entries,
            memory,
            slots,
            count,
            size,
            tail,
            held,
            slot_of,
            spare,
            provided,
            used,
            demand,
        }
    }

    /// Registers the buffer ring and provides the first buffers.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let start = self.entries.at(0, self.entries.len()) as u64;
        // SAFETY: `entries` is page-aligned, holds `slots` entries, and is freed only by
        // `Ring::drop` after the kernel has let go of every operation of this ring.
        unsafe { submitter.register_buf_ring_with_flags(start, self.slots, GROUP, 0) }?;
        self.provide();
        Ok(())
    }

    pub(super) const fn buffer_size(&self) -> u32 {
        self.size
    }

    /// The kernel has put `len` bytes into `buf` and, if it is too small for them, into those that
    /// were provided after it. From here on `buf` is held.
    pub(super) fn take(&mut self, buf: u16, len: u32) -> Filled {
        let held = &mut self.held[usize::from(buf)];
        assert!(!*held, "the kernel used buffer {buf}, which it did not have");
        *held = true;
        let provided = self.provided.checked_sub(1);
        self.provided = provided.expect("the kernel used a buffer that was provided");
        self.used += 1;
        // The kernel may have shortened the entry: there the bytes go on in the next buffer.
        let most = self.entry(self.slot_of[usize::from(buf)]).len();
        Filled { buf, len: len.min(most), left: len.saturating_sub(most) }
    }

    /// The same for the bytes that are left, in the buffer provided after that of `filled`.
    pub(super) fn take_next(&mut self, filled: Filled) -> Filled {
        let slot = self.slot_of[usize::from(filled.buf)].wrapping_add(1);
        self.take(self.entry(slot).bid(), filled.left)
    }

    /// The kernel found no buffer: all are provided from the next call on, for a while.
    pub(super) fn record_shortage(&mut self) {
        self.demand.record_shortage();
    }

    /// Whether every buffer is held.
    pub(super) fn is_empty(&self) -> bool {
        self.provided == 0 && self.spare.is_empty()
    }

    /// Frees a held buffer.
    pub(super) fn release(&mut self, buf: u16) {
        let held = &mut self.held[usize::from(buf)];
        assert!(*held, "buffer {buf} released twice");
        *held = false;
        self.spare.push(buf);
    }

    /// Provides as many buffers as the demand asks for. To be called before each entry into the
    /// kernel.
    #[inline]
    pub(super) fn provide(&mut self) {
        if self.used > 0 || self.provided < self.demand.target {
            self.demand.record(std::mem::take(&mut self.used));
            self.top_up();
        }
    }

    fn top_up(&mut self) {
        while self.provided < self.demand.target {
            let Some(buf) = self.spare.pop() else { break };
            self.push(buf);
            self.provided += 1;
        }
        self.publish_tail();
    }

    fn push(&mut self, buf: u16) {
        let entry = self.entry_at(self.tail);
        self.slot_of[usize::from(buf)] = self.tail;
        let address = self.memory.at(usize::from(buf) * self.size as usize, self.size as usize);
        // SAFETY: `entry` points into the entries region, and only this thread writes entries; the
        // kernel reads one only after the published tail has passed it. The fields are written
        // through the reference, which leaves the ring's tail (the first entry's reserved word)
        // alone.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(self.size);
        entry.set_bid(buf);
        self.tail = self.tail.wrapping_add(1);
    }

    /// The entry that was written when the tail was `slot`, as long as no later one took its place.
    fn entry(&self, slot: u16) -> &BufRingEntry {
        // SAFETY: the entry is in the entries region, zeroed when mapped and written by `push`,
        // which takes `&mut self`, which this borrow excludes. The kernel changes an entry (it may
        // shorten one) only before it reports the entry's buffer as filled, which it has.
        unsafe { &*self.entry_at(slot) }
    }

    fn entry_at(&self, slot: u16) -> *mut BufRingEntry {
        let width = size_of::<BufRingEntry>();
        let slot = usize::from(slot & (self.slots - 1));
        #[allow(clippy::cast_ptr_alignment, reason = "the region is page-aligned")]
        self.entries.at(slot * width, width).cast::<BufRingEntry>()
    }

    /// Lets the kernel see the entries written so far.
    fn publish_tail(&self) {
        #[allow(clippy::cast_ptr_alignment, reason = "the region is page-aligned")]
        let first = self.entries.at(0, size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: `first` is the address of the ring's first entry, zeroed when mapped.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail word is 2-aligned within the entry, lives as long as the region, and is
        // only ever accessed atomically (by us) and with load-acquire (by the kernel).
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `len` bytes of a held buffer.
    pub(super) fn bytes(&self, buf: u16, len: u32) -> &[u8] {
        let start = self.range(buf, 0, len);
        // SAFETY: the buffer is held (asserted by `range`), so the kernel does not write to it, and
        // releasing it takes `&mut self`, which this borrow excludes. The memory is initialised:
        // zeroed when mapped, then written by the kernel.
        unsafe { std::slice::from_raw_parts(start, len as usize) }
    }

    /// Copies `len` bytes between two held buffers.
    pub(super) fn copy(&mut self, from: u16, offset: u32, len: u32, to: u16, at: u32) {
        assert_ne!(from, to, "a copy within one buffer");
        let source = self.range(from, offset, len);
        let target = self.range(to, at, len);
        // SAFETY: two different buffers, both held, both ranges inside theirs (asserted by
        // `range`). The kernel may be reading earlier bytes of `to` for a send, never these.
        unsafe { std::ptr::copy_nonoverlapping(source, target, len as usize) }
    }

    /// A pointer to `len` bytes of a held buffer, for the kernel to read.
    pub(super) fn range(&self, buf: u16, offset: u32, len: u32) -> *mut u8 {
        assert!(self.held[usize::from(buf)], "buffer {buf} is the kernel's");
        let end = offset.checked_add(len).expect("a range of u32");
        assert!(end <= self.size, "range {offset}..{end} outside a buffer of {}", self.size);
        self.memory.at(usize::from(buf) * self.size as usize + offset as usize, len as usize)
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// As [`Region::free`]: no operation in flight may refer to the pool.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe { self.entries.free() };
        // SAFETY: passed on to the caller.
        unsafe { self.memory.free() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provided_buffers_follow_the_demand() {
        let mut demand = Demand::new(1024);
        assert_eq!(demand.target, Demand::LEAST);
        demand.record(16);
        assert_eq!(demand.target, 32, "twice what was used");
        demand.record(1);
        assert_eq!(demand.target, 32, "and not less at once");
        demand.record(1000);
        assert_eq!(demand.target, 1024, "all there are");
        (0..2 * Demand::PERIOD).for_each(|_| demand.record(3));
        assert_eq!(demand.target, Demand::LEAST, "forgotten after two periods at most");
        (1..Demand::PERIOD).for_each(|_| demand.record(3));
        demand.record_shortage();
        demand.record(3);
        assert_eq!(demand.target, 1024, "a shortage outlasts the end of a period");
        assert_eq!(Demand::new(4).target, 4, "a small pool is provided whole");
    }

    #[test]
    fn a_receive_goes_on_in_the_buffers_provided_next() {
        let mut pool = Pool::new(4, 4096);
        pool.provide();
        for buf in [0, 1] {
            pool.take(buf, 1);
            pool.release(buf);
        }
        pool.provide();
        // The kernel has a rest of 100 bytes to receive, and none is there when it tries.
        // SAFETY: the second entry of the pool, which nobody else knows.
        unsafe { (*pool.entry_at(2)).set_len(100) };
        let first = pool.take(2, 5000);
        assert_eq!(first, Filled { buf: 2, len: 100, left: 4900 });
        let second = pool.take_next(first);
        assert_eq!(second, Filled { buf: 3, len: 4096, left: 804 });
        let third = pool.take_next(second);
        assert_eq!(third, Filled { buf: 1, len: 804, left: 0 }, "the last released comes first");
        assert_eq!(pool.bytes(1, 804).len(), 804);
    }
}
