//! Bytes of our own that sends read from: greetings, message patterns.

use super::region::Region;

/// A fixed block of outgoing bytes. The kernel only reads it.
#[derive(Debug)]
pub(super) struct Staging {
    bytes: Region,
    len: usize,
}

impl Staging {
    pub(super) fn new(len: usize) -> Self {
        Self { bytes: Region::new(len), len }
    }

    /// Overwrites `bytes.len()` bytes at `offset`. A send that is reading them meanwhile sends
    /// some mixture of old and new; whoever stages owns the range until its send has ended.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "staging {} bytes at {offset}", bytes.len());
        let target = self.bytes.at(offset, bytes.len());
        // SAFETY: the range is inside the region (asserted by `at`) and `bytes` cannot overlap it:
        // no reference into the region is ever handed out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// A pointer to `len` bytes for the kernel to read.
    pub(super) fn range(&self, offset: usize, len: usize) -> *const u8 {
        assert!(offset + len <= self.len, "range {offset}+{len} outside staging of {}", self.len);
        self.bytes.at(offset, len)
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// As [`Region::free`].
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe { self.bytes.free() }
    }
}
