//! `io_uring_enter` through a registered ring descriptor.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring};

/// `IORING_REGISTER_RING_FDS` (Linux 5.18).
const REGISTER_RING_FDS: libc::c_long = 20;
/// `IORING_UNREGISTER_RING_FDS` (Linux 5.18).
const UNREGISTER_RING_FDS: libc::c_long = 21;

/// `struct io_uring_rsrc_update`, as IORING_REGISTER_RING_FDS takes it.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg` (IORING_ENTER_EXT_ARG, Linux 5.11).
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    timespec: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// The way into the kernel: a registered index where possible, which saves a descriptor look-up
/// per call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    fd: RawFd,
    flags: EnterFlags,
}

impl Door {
    /// Registers `ring` with this thread; falls back to the plain descriptor.
    pub(super) fn open(ring: &IoUring) -> (Self, Option<String>) {
        let plain = Self { fd: ring.as_raw_fd(), flags: EnterFlags::empty() };
        match register(plain.fd) {
            Ok(index) => (Self { fd: index, flags: EnterFlags::REGISTERED_RING }, None),
            Err(error) => (plain, Some(format!("ring descriptor not registered: {error}"))),
        }
    }

    /// Takes the registration back. Without it closing the descriptor does not end the ring.
    pub(super) fn close(self, ring: &IoUring) {
        if self.flags.contains(EnterFlags::REGISTERED_RING) {
            let offset = u32::try_from(self.fd).expect("an index");
            let mut update = RingFdUpdate { offset, reserved: 0, data: 0 };
            // A refusal leaves the ring to the end of the thread, as before.
            let count = register_call(ring.as_raw_fd(), UNREGISTER_RING_FDS, &mut update);
            debug_assert_eq!(count, 1, "the ring was registered");
        }
    }

    /// Submits `submissions` entries; runs pending task work and waits for `want` completions if
    /// `wait` says so. Returns how many entries were consumed.
    pub(super) fn pass(self, submissions: u32, wait: Wait) -> io::Result<u32> {
        let (want, timeout, flags) = match wait {
            Wait::No => (0, None, EnterFlags::empty()),
            Wait::Poll => (0, None, EnterFlags::GETEVENTS),
            Wait::Forever => (1, None, EnterFlags::GETEVENTS),
            Wait::AtMost(limit) => (1, Some(limit), EnterFlags::GETEVENTS | EnterFlags::EXT_ARG),
        };
        let timespec = timeout.map(|limit| KernelTimespec {
            seconds: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(limit.subsec_nanos()),
        });
        let argument = timespec.as_ref().map(|timespec| WaitArgument {
            sigmask: 0,
            sigmask_size: 8,
            min_wait_usec: 0,
            timespec: ptr::from_ref(timespec) as u64,
        });
        let (pointer, size) = argument
            .as_ref()
            .map_or((ptr::null(), 8), |a| (ptr::from_ref(a), size_of::<WaitArgument>()));
        // SAFETY: the descriptor is this ring's (or its registered index on this very thread, the
        // ring being !Send); `pointer` is null or a live WaitArgument whose timespec is live, and
        // the kernel reads both only during the call.
        let consumed = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd,
                submissions,
                want,
                (self.flags | flags).bits(),
                pointer,
                size,
            )
        };
        u32::try_from(consumed).map_err(|_| io::Error::last_os_error())
    }
}

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

fn register(fd: RawFd) -> io::Result<RawFd> {
    let data = u64::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, data };
    let count = register_call(fd, REGISTER_RING_FDS, &mut update);
    if count != 1 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(update.offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn register_call(fd: RawFd, operation: libc::c_long, update: &mut RingFdUpdate) -> libc::c_long {
    // SAFETY: `update` is one live io_uring_rsrc_update; the kernel reads it, and may write the
    // index it chose into `offset`, during the call only.
    unsafe {
        libc::syscall(libc::SYS_io_uring_register, fd, operation, ptr::from_mut(update), 1u32)
    }
}
