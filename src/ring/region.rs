//! Memory the kernel reads and writes while operations are in flight.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};

const PAGE: usize = 4096;

/// A page-aligned, zeroed mapping that is freed only when its owner says that the kernel is done
/// with it. Dropping a `Region` leaks it: an address the kernel may still write to must never be
/// handed to the allocator.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    len: usize,
}

impl Region {
    /// `len` bytes, at least one page, all of which cost memory from now on: what a process needs
    /// in the long run shows at its start.
    pub(super) fn new(len: usize) -> Self {
        Self::map(len, libc::MAP_POPULATE)
    }

    /// The same, each page of which costs memory from its first use on (mmap(2)).
    pub(super) fn lazy(len: usize) -> Self {
        Self::map(len, 0)
    }

    fn map(len: usize, populate: libc::c_int) -> Self {
        let layout = Layout::from_size_align(len.max(PAGE), PAGE).expect("length fits isize");
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), layout.size(), read_write, flags, -1, 0) };
        let failed = start == libc::MAP_FAILED;
        let Some(start) = NonNull::new(start.cast()).filter(|_| !failed) else {
            handle_alloc_error(layout)
        };
        Self { start, len: layout.size() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A pointer to `offset`, with `len` bytes behind it inside the region.
    pub(super) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len).expect("a range of the address space");
        assert!(end <= self.len(), "range {offset}..{end} outside region of {}", self.len());
        // SAFETY: `offset` lies within the mapping, as just asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// No operation in flight may refer to the region, and no pointer into it may be used again.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: exactly the mapping made by `map`; the caller promises that nobody uses it any
        // more, and the ring's `Drop` is the only caller, once.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, 0, "a mapping of ours");
    }
}
