//! The system calls that a serving process makes; the filter is made of this table.
//!
//! Whoever adds a call to the server adds it here, under what needs it: anything that is not listed
//! ends the process.

use crate::stamp::Engine;

/// What decides which calls a serving process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses {
    /// What drives its workers.
    pub engine: Engine,
    /// It waits for a successor.
    pub takeover: bool,
    /// The listener of its admin endpoint, by number.
    pub admin: Option<i32>,
}

/// A system call, and the arguments with which it is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: i64,
    pub(super) when: When,
}

/// Conditions on arguments, which are counted from 0. Only values can be looked at, not memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    /// The argument is one of these.
    OneOf(u8, &'static [i32]),
    /// The argument is this.
    Is(u8, i32),
    /// The argument has none of these bits.
    Without(u8, i32),
    /// A send to the connected peer: no address, no flag that connects.
    Connected,
    /// The signal of abort(3), to this process.
    Abort,
}

/// The calls of a process with these uses. One that is listed twice is allowed by either.
pub(super) fn allowed(uses: Uses) -> impl Iterator<Item = Call> {
    let of_the_engine = match uses.engine {
        Engine::Uring => URING,
        Engine::Epoll => EPOLL,
        Engine::TokioUring => TOKIO_URING,
    };
    let of_the_door = if uses.takeover { TAKEOVER } else { &[] };
    let of_the_admin = if uses.admin.is_some() { ADMIN } else { &[] };
    let accept = uses.admin.map(|listener| call(libc::SYS_accept4, When::Is(0, listener)));
    [MEMORY, THREADS, TIME, LOG_AND_SIGNALS, END, STOP, OLD_CALLS, of_the_engine, of_the_door]
        .into_iter()
        .chain([of_the_admin])
        .flatten()
        .copied()
        .chain(accept)
}

const MEMORY: &[Call] = &[
    always(libc::SYS_brk),
    always(libc::SYS_madvise),
    call(libc::SYS_mmap, When::Without(2, libc::PROT_EXEC)),
    call(libc::SYS_mprotect, When::Without(2, libc::PROT_EXEC)),
    always(libc::SYS_mremap),
    always(libc::SYS_munmap),
];

/// Threads that wait for each other, and that have just been started. No new ones.
const THREADS: &[Call] = &[
    always(libc::SYS_futex),
    call(libc::SYS_prctl, When::OneOf(0, PRCTL)),
    always(libc::SYS_rseq),
    always(libc::SYS_sched_getaffinity),
    always(libc::SYS_sched_yield),
    always(libc::SYS_set_robust_list),
    always(libc::SYS_sigaltstack),
];

const TIME: &[Call] = &[
    always(libc::SYS_clock_gettime),
    always(libc::SYS_clock_nanosleep),
    always(libc::SYS_gettimeofday),
    always(libc::SYS_nanosleep),
    always(libc::SYS_restart_syscall),
];

/// Standard error, the wake fds, and the socket pair by which a signal handler tells its thread.
const LOG_AND_SIGNALS: &[Call] = &[
    always(libc::SYS_ppoll),
    // CPU quotas are read again through descriptors that are open.
    always(libc::SYS_pread64),
    always(libc::SYS_recvfrom),
    always(libc::SYS_rt_sigprocmask),
    always(libc::SYS_rt_sigreturn),
    call(libc::SYS_sendto, When::Connected),
    always(libc::SYS_write),
];

/// Closing what is open, exit, and abort(3) after a panic.
const END: &[Call] = &[
    always(libc::SYS_close),
    always(libc::SYS_exit),
    always(libc::SYS_exit_group),
    call(libc::SYS_fcntl, When::OneOf(1, &[libc::F_GETFD])),
    always(libc::SYS_getpid),
    always(libc::SYS_gettid),
    call(libc::SYS_tgkill, When::Abort),
];

/// Asking who a successor is, and handing the listening sockets over.
const TAKEOVER: &[Call] = &[
    always(libc::SYS_accept4),
    call(libc::SYS_getsockopt, When::OneOf(2, &[libc::SO_PEERCRED])),
    always(libc::SYS_recvmsg),
    call(libc::SYS_sendmsg, When::Without(2, libc::MSG_FASTOPEN)),
];

/// The thread that answers at the admin endpoint: its runtime sleeps in epoll, seeds a random
/// number, and asks for the state of the accept queues. A filter is one for all threads, and these
/// are harmless to all: accept4 (see [`allowed`]) takes connections of that one listener.
const ADMIN: &[Call] = &[
    always(libc::SYS_epoll_ctl),
    always(libc::SYS_epoll_pwait),
    always(libc::SYS_getrandom),
    call(libc::SYS_getsockopt, When::OneOf(2, &[libc::TCP_INFO, libc::SO_MEMINFO])),
    always(libc::SYS_shutdown),
];

/// What keeps new connections away before the queues are emptied.
const STOP: &[Call] = &[call(libc::SYS_setsockopt, When::OneOf(2, &[libc::SO_BINDTOIFINDEX]))];

/// A ring's entries are restricted by the ring itself; its drop cancels and unregisters. The log
/// may tell each peer.
const URING: &[Call] = &[
    always(libc::SYS_getpeername),
    always(libc::SYS_io_uring_enter),
    always(libc::SYS_io_uring_register),
];

/// A socket that cannot be watched any more is shut down.
const EPOLL: &[Call] = &[
    always(libc::SYS_accept4),
    always(libc::SYS_epoll_ctl),
    always(libc::SYS_epoll_pwait),
    always(libc::SYS_epoll_pwait2),
    call(libc::SYS_ioctl, When::OneOf(1, UNSENT_BYTES)),
    call(libc::SYS_sendmsg, When::Without(2, libc::MSG_FASTOPEN)),
    always(libc::SYS_shutdown),
];

/// The request for a socket's unsent bytes.
#[allow(clippy::cast_possible_truncation, reason = "a request has 32 bits")]
const UNSENT_BYTES: &[i32] = &[libc::TIOCOUTQ as i32];

/// Its runtime sleeps in epoll and reads an eventfd; tokio(-uring) shuts sockets down.
const TOKIO_URING: &[Call] = &[
    always(libc::SYS_epoll_ctl),
    always(libc::SYS_epoll_pwait),
    always(libc::SYS_io_uring_enter),
    always(libc::SYS_io_uring_register),
    always(libc::SYS_read),
    always(libc::SYS_shutdown),
];

/// What this architecture has beside the newer calls above.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[Call] =
    &[always(libc::SYS_epoll_wait), always(libc::SYS_poll), always(libc::SYS_time)];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[Call] = &[];

/// Calls that are answered with EACCES instead of ending the process: a panic with RUST_BACKTRACE
/// set tries to read the program's symbols, and the allocator may look at a sysctl.
pub(super) const ANSWERED: &[Call] = &[
    always(libc::SYS_fstat),
    always(libc::SYS_getcwd),
    call(libc::SYS_openat, When::Without(2, WRITING)),
    always(libc::SYS_readlinkat),
    always(libc::SYS_statx),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_open, When::Without(1, WRITING)),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_newfstatat),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_readlink),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_stat),
];

/// Flags of open(2) that write or create.
const WRITING: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;

/// Options of prctl(2): the name of a thread, that of a mapping (the C library sets it), and what
/// the kernel told the program at its start (rustix asks for it when it first needs to know).
const PRCTL: &[i32] = &[libc::PR_SET_NAME, 0x5356_4d41, 0x4155_5856];

const fn always(number: i64) -> Call {
    call(number, When::Always)
}

const fn call(number: i64, when: When) -> Call {
    Call { number, when }
}
