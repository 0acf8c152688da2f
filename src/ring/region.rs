//! Memory the kernel reads and writes while operations are in flight.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const PAGE: usize = 4096;

/// A page-aligned, zeroed block that is freed only when its owner says that the kernel is done
/// with it. Dropping a `Region` leaks it: an address the kernel may still write to must never be
/// handed to the allocator.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

impl Region {
    /// `len` bytes, at least one page.
    pub(super) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(PAGE), PAGE).expect("length fits isize");
        // SAFETY: the layout's size is at least one page, so it is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    pub(super) fn len(&self) -> usize {
        self.layout.size()
    }

    /// A pointer to `offset`, with `len` bytes behind it inside the region.
    pub(super) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len).expect("a range of the address space");
        assert!(end <= self.len(), "range {offset}..{end} outside region of {}", self.len());
        // SAFETY: `offset` lies within the allocation, as just asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// No operation in flight may refer to the region, and no pointer into it may be used again.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this very layout; the caller promises that
        // nobody uses it any more, and the ring's `Drop` is the only caller, once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
