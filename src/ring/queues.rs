//! The queues of an io_uring, and entering the kernel through its registered descriptor.

use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter};

use super::combined_wait::WINDOW_US;

/// An io_uring taken apart. The crate keeps the registered index of the descriptor in the
/// `Submitter`, which borrows from the ring; so the ring lives on the heap beside its parts.
pub(super) struct Queues {
    submitter: Submitter<'static>,
    /// Its view of what the kernel has consumed is as of the last [`Queues::enter`].
    pub(super) submissions: SubmissionQueue<'static>,
    pub(super) completions: CompletionQueue<'static>,
    /// Entries ever pushed, modulo 2^32.
    pushed: u32,
    /// The last field, so that it is dropped last: the others refer to it.
    _uring: Owner,
}

/// An `IoUring` on the heap, freed when this is dropped.
struct Owner(NonNull<IoUring>);

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: `Queues::new` made the pointer from a box and gave it to this owner alone. The
        // references made from it are in fields that were dropped before.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Longer than anybody waits, and no overflow for the kernel.
const FOREVER: Duration = Duration::from_secs(1 << 31);

/// How long to stay in the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Submit only.
    No,
    /// Run what is pending, wait for nothing.
    Poll,
    /// Until a completion is there.
    Forever,
    /// Until a completion is there or this much time has passed.
    AtMost(Duration),
}

impl Wait {
    /// The fewest completions to wait for, and the flags of `io_uring_enter` that go with it.
    const fn arguments(self) -> (u32, EnterFlags) {
        match self {
            Self::No => (0, EnterFlags::empty()),
            Self::Poll => (0, EnterFlags::GETEVENTS),
            Self::Forever => (1, EnterFlags::GETEVENTS),
            Self::AtMost(_) => (1, EnterFlags::GETEVENTS.union(EnterFlags::EXT_ARG)),
        }
    }

    pub(super) const fn sleeps(self) -> bool {
        matches!(self, Self::Forever | Self::AtMost(_))
    }
}

impl Queues {
    pub(super) fn new(uring: IoUring) -> Self {
        let mut owner = Owner(NonNull::from(Box::leak(Box::new(uring))));
        // SAFETY: the box was leaked just now and nobody else knows of it. It lives until `owner`
        // is dropped, which is after everything that is made from this reference: see the order of
        // the fields.
        let uring: &'static mut IoUring = unsafe { owner.0.as_mut() };
        let (submitter, submissions, completions) = uring.split();
        Self { submitter, submissions, completions, pushed: 0, _uring: owner }
    }

    /// Makes this thread enter the kernel by a registered index, which saves a descriptor look-up
    /// per call (IORING_REGISTER_RING_FDS, Linux 5.18). Without it everything works the same.
    pub(super) fn register_descriptor(&mut self) -> io::Result<()> {
        self.submitter.register_ring_fd()
    }

    /// For registering other things.
    pub(super) const fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Entries ever pushed, modulo 2^32.
    pub(super) const fn pushed(&self) -> u32 {
        self.pushed
    }

    /// The next submission slot, unless the queue is full.
    pub(super) fn free_slot(&mut self) -> Option<FreeSlot<'_>> {
        if self.submissions.is_full() { None } else { Some(FreeSlot { queues: self }) }
    }

    /// Submits the first `submissions` queued entries, runs pending task work and waits if `wait`
    /// says so, for `more` completions than that, which are given up after [`WINDOW_US`].
    pub(super) fn enter(&mut self, submissions: u32, wait: Wait, more: u32) -> io::Result<usize> {
        self.submissions.sync();
        let (want, flags) = wait.arguments();
        let entered = if more == 0 && !flags.contains(EnterFlags::EXT_ARG) {
            // SAFETY: no argument, hence no memory that the kernel would read.
            unsafe { self.submitter.enter::<libc::sigset_t>(submissions, want, flags.bits(), None) }
        } else {
            let limit = if let Wait::AtMost(limit) = wait { limit } else { FOREVER };
            let limit = Timespec::from(limit);
            let least = if more > 0 { WINDOW_US } else { 0 };
            let arguments = SubmitArgs::new().timespec(&limit).min_wait_usec(least);
            let (want, flags) = (want + more, (flags | EnterFlags::EXT_ARG).bits());
            // SAFETY: EXT_ARG is set, and `arguments` is the crate's form of the argument that goes
            // with it. The kernel reads it, and `limit`, during the call only.
            unsafe { self.submitter.enter(submissions, want, flags, Some(&arguments)) }
        };
        self.submissions.sync();
        entered
    }
}

/// A submission slot whose last entry the kernel has consumed. While it is there nothing else is
/// pushed, so what belongs to the slot may be written.
pub(super) struct FreeSlot<'a> {
    queues: &'a mut Queues,
}

impl FreeSlot<'_> {
    /// The number of the entry that will be pushed here; modulo the size of the queue it names the
    /// slot.
    pub(super) const fn number(&self) -> u32 {
        self.queues.pushed
    }

    /// Queues `entry`.
    ///
    /// # Safety
    /// What the entry refers to must live until its last completion, a descriptor until the kernel
    /// has consumed it.
    pub(super) unsafe fn push(self, entry: &Entry) {
        // SAFETY: passed on to the caller.
        let pushed = unsafe { self.queues.submissions.push(entry) };
        pushed.expect("the queue has room as long as this slot is borrowed from it");
        self.queues.pushed = self.queues.pushed.wrapping_add(1);
    }
}

impl Drop for Queues {
    /// A registered descriptor would keep the ring alive until its thread ends.
    fn drop(&mut self) {
        // Refused if it is not registered: then there is nothing to undo.
        self.submitter.unregister_ring_fd().ok();
    }
}
