//! The receive buffers: memory lent to the kernel through a provided-buffer ring.
//!
//! A buffer is either *home* (the kernel may write into it) or *held* (its bytes are ours until
//! [`Pool::release`]). The pool keeps the account, so that safe code can neither read a buffer the
//! kernel may be writing nor give one back twice.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::region::Region;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// `count` buffers of `size` bytes, and the ring that offers them to the kernel
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
}

impl Pool {
    /// Allocates the pool with every buffer held; [`Self::register`] sends them home.
    pub(super) fn new(count: u16, size: u32) -> Self {
        assert!(count <= 1 << 15, "a buffer ring has at most 32768 entries");
        let slots = count.max(1).next_power_of_two();
        let entries = Region::new(usize::from(slots) * size_of::<BufRingEntry>());
        let memory = Region::new(usize::from(count) * size as usize);
        let held = vec![true; usize::from(count)].into_boxed_slice();
        Self { entries, memory, slots, count, size, tail: 0, held }
    }

    /// Bytes that count against RLIMIT_MEMLOCK: the ring of entries, not the buffers.
    pub(super) fn locked_bytes(&self) -> u64 {
        if self.count == 0 { 0 } else { self.entries.len() as u64 }
    }

    /// Registers the buffer ring and fills it.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let start = self.entries.at(0, self.entries.len()) as u64;
        // SAFETY: `entries` is page-aligned, holds `slots` entries, and is freed only by
        // `Ring::drop` after the kernel has let go of every operation of this ring.
        unsafe { submitter.register_buf_ring_with_flags(start, self.slots, GROUP, 0) }?;
        (0..self.count).for_each(|buf| self.release(buf));
        Ok(())
    }

    pub(super) const fn buffer_size(&self) -> u32 {
        self.size
    }

    /// Notes that the kernel filled `buf`: from here on it is held.
    pub(super) fn take(&mut self, buf: u16) {
        let held = &mut self.held[usize::from(buf)];
        assert!(!*held, "the kernel used buffer {buf}, which it did not have");
        *held = true;
    }

    /// Gives a held buffer back to the kernel.
    pub(super) fn release(&mut self, buf: u16) {
        let held = &mut self.held[usize::from(buf)];
        assert!(*held, "buffer {buf} released twice");
        *held = false;
        let slot = usize::from(self.tail & (self.slots - 1));
        let width = size_of::<BufRingEntry>();
        #[allow(clippy::cast_ptr_alignment, reason = "the region is page-aligned")]
        let entry = self.entries.at(slot * width, width).cast::<BufRingEntry>();
        let address = self.memory.at(usize::from(buf) * self.size as usize, self.size as usize);
        // SAFETY: `entry` points into the entries region, and only this thread writes entries; the
        // kernel reads one only after the tail below has passed it. The fields are written through
        // the reference, which leaves the ring's tail (the first entry's reserved word) alone.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(self.size);
        entry.set_bid(buf);
        self.tail = self.tail.wrapping_add(1);
        self.publish_tail();
    }

    /// Lets the kernel see the entries written so far.
    fn publish_tail(&self) {
        #[allow(clippy::cast_ptr_alignment, reason = "the region is page-aligned")]
        let first = self.entries.at(0, size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: `first` is the address of the ring's first entry, zeroed at allocation.
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
        // zeroed at allocation, then written by the kernel.
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
