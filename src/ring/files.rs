//! Descriptors that submission entries name.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::Fd;

use super::queues::FreeSlot;

/// The descriptors of entries that the kernel has not consumed yet.
///
/// An entry names a descriptor by its number, which means the file that has this number when the
/// kernel consumes the entry. Until then it is kept open here; from then on the operation has a
/// reference of its own to the file. (No entry is linked, drained or forced to be asynchronous, so
/// that none looks its file up later than that.)
#[derive(Debug)]
pub(super) struct QueuedFiles {
    /// With the number of the entry, oldest first.
    queued: VecDeque<(u32, Arc<OwnedFd>)>,
}

impl QueuedFiles {
    /// `slots` is how many entries can be unconsumed.
    pub(super) fn new(slots: u32) -> Self {
        Self { queued: VecDeque::with_capacity(slots as usize) }
    }

    /// Keeps `file` open until the entry about to be pushed to `slot` is consumed.
    pub(super) fn keep(&mut self, slot: &FreeSlot<'_>, file: &Arc<OwnedFd>) -> Fd {
        self.queued.push_back((slot.number(), Arc::clone(file)));
        Fd(file.as_raw_fd())
    }

    /// The kernel has consumed all but the last `left` of `pushed` entries.
    #[inline]
    pub(super) fn release(&mut self, pushed: u32, left: usize) {
        while let Some((number, _)) = self.queued.front() {
            if (pushed.wrapping_sub(*number) as usize) <= left {
                return;
            }
            self.queued.pop_front();
        }
    }
}
