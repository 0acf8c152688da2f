//! Making a ring: flags by probing, with retries when memory is short, restricted before it is
//! enabled.

use std::io;
use std::num::NonZeroU32;
use std::thread::sleep;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::Napi;
use io_uring::{Builder, IoUring, Probe, Submitter, opcode};
use rustix::io::Errno;

use super::error::{RingError, release};

/// How large a ring is to be.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Submission slots, rounded up to a power of two by the kernel.
    pub submissions: u32,
    /// Completion slots; multishot operations need far more of these.
    pub completions: u32,
    /// Receive buffers, at most 32,768; 0 for none.
    pub buffers: u16,
    /// Bytes in a receive buffer.
    pub buffer_size: u32,
    /// Direct descriptors, at most RLIMIT_NOFILE; 0 for none.
    pub direct: u32,
    /// Bytes of staging memory for sends of our own.
    pub staging: usize,
    /// Listeners on which single accepts may be armed.
    pub listeners: u32,
    /// Peers of direct descriptors will be looked up.
    pub peers: bool,
    /// Microseconds that the kernel polls the network card for before the ring waits (Linux 6.9).
    pub napi: Option<NonZeroU32>,
    /// Allow only the operations a server needs, for the life of the ring (Linux 5.10).
    pub restricted: bool,
}

impl Setup {
    /// A small ring for a few synchronous calls.
    pub const CALLS: Self = Self {
        submissions: 8,
        completions: 16,
        buffers: 0,
        buffer_size: 4096,
        direct: 0,
        staging: 0,
        listeners: 0,
        peers: false,
        napi: None,
        restricted: false,
    };

    /// What the ring counts against RLIMIT_MEMLOCK from Linux 6.14 on, in whole pages each: 64
    /// bytes a submission, 16 a completion behind a header, 16 a slot of the buffer ring. (Measured
    /// on Linux 6.18: the smallest limit with which a server of 1, 2 and 8 workers starts.)
    #[must_use]
    pub const fn locked_bytes(&self) -> u64 {
        const HEADER: u64 = 320;
        let submissions = self.submissions.next_power_of_two() as u64;
        let completions = self.completions.next_power_of_two() as u64;
        let buffers = if self.buffers == 0 { 0 } else { self.buffers.next_power_of_two() as u64 };
        pages(submissions * 64) + pages(HEADER + completions * 16) + pages(buffers * 16)
    }
}

const fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// A set-up flag that newer kernels have and older ones refuse with EINVAL.
struct Flag {
    name: &'static str,
    since: &'static str,
    set: for<'a> fn(&'a mut Builder) -> &'a mut Builder,
}

/// Dropped one after the other, newest first, until the kernel accepts the rest.
const FLAGS: [Flag; 3] = [
    Flag { name: "NO_SQARRAY", since: "6.6", set: |b| b.setup_no_sqarray() },
    Flag {
        name: "SINGLE_ISSUER+DEFER_TASKRUN+TASKRUN_FLAG",
        since: "6.1",
        set: |b| b.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
    },
    Flag { name: "SUBMIT_ALL", since: "5.18", set: |b| b.setup_submit_all() },
];

/// Builds the ring, disabled. Returns what had to be left out.
pub(super) fn build(setup: &Setup) -> Result<(IoUring, Vec<String>), RingError> {
    let mut flags = &FLAGS[..];
    let mut degraded = Vec::new();
    loop {
        let attempt = retry_no_memory(|| builder(setup, flags).build(setup.submissions));
        match (attempt, flags) {
            (Ok(ring), _) => return Ok((ring, degraded)),
            (Err(error), [newest, rest @ ..]) if is(&error, Errno::INVAL) => {
                degraded.push(format!(
                    "io_uring without {} (needs Linux {})",
                    newest.name, newest.since
                ));
                flags = rest;
            }
            (Err(error), _) => {
                return Err(RingError::setup("io_uring_setup", error, setup.locked_bytes()));
            }
        }
    }
}

fn builder(setup: &Setup, flags: &[Flag]) -> Builder {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(setup.completions).setup_clamp().setup_r_disabled().dontfork();
    for flag in flags {
        (flag.set)(&mut builder);
    }
    builder
}

/// The kernel returns locked memory of finished rings asynchronously, so ENOMEM is asked again for
/// up to a second, 10 to 100 ms apart, before it is believed.
pub(crate) fn retry_no_memory<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for pause_ms in [10, 20, 40, 80, 100, 100, 100, 100, 100, 100] {
        match attempt() {
            Err(error) if is(&error, Errno::NOMEM) => sleep(Duration::from_millis(pause_ms)),
            other => return other,
        }
    }
    attempt()
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

/// The optional operations that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `IORING_OP_SOCKET` (Linux 5.19).
    pub socket: bool,
    /// `IORING_OP_BIND` and `IORING_OP_LISTEN` (Linux 6.11).
    pub bind_listen: bool,
    /// Completions appear only while the ring's thread enters the kernel (DEFER_TASKRUN, Linux
    /// 6.1).
    pub deferred_work: bool,
    /// Multishot receives with a total limit (Linux 6.17).
    pub limited_receive: bool,
    /// Such receives fill several buffers at once (IORING_RECVSEND_BUNDLE).
    pub bundles: bool,
    /// `IORING_OP_FIXED_FD_INSTALL` (Linux 6.8), if peers are to be looked up.
    pub peers: bool,
}

/// Asks which operations the kernel has; refuses one that lacks what the engine needs.
pub(super) fn probe(ring: &IoUring, setup: &Setup) -> Result<Features, RingError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::setup("io_uring_register(PROBE)", error, 0))?;
    // SEND_ZC came with the kernel that brought multishot receives, which no probe shows.
    let required = [
        (probe.is_supported(opcode::SendZc::CODE), "multishot receive", "6.0"),
        (ring.params().is_feature_submit_stable(), "stable submissions", "5.5"),
        (ring.params().is_feature_ext_arg(), "waits with a timeout", "5.11"),
    ];
    if let Some((_, what, since)) = required.into_iter().find(|(there, ..)| !there) {
        return Err(RingError::TooOld { release: release(), what, since });
    }
    Ok(Features {
        socket: probe.is_supported(opcode::Socket::CODE),
        // The flags come and go together.
        deferred_work: ring.params().is_setup_single_issuer(),
        bind_listen: probe.is_supported(opcode::Bind::CODE)
            && probe.is_supported(opcode::Listen::CODE),
        // Found out by trying, see `Ring::try_limited_receive`.
        limited_receive: false,
        bundles: setup.buffers > 0 && ring.params().is_feature_recvsend_bundle(),
        peers: setup.peers && probe.is_supported(opcode::FixedFdInstall::CODE),
    })
}

/// From now on the kernel polls the receive queues that the ring's sockets got their packets from
/// for `micros` before it lets the ring wait (io_uring_register(2), IORING_REGISTER_NAPI).
pub(super) fn poll_card(submitter: &Submitter<'_>, micros: NonZeroU32) -> Result<(), RingError> {
    let mut napi = Napi::new().set_busy_poll_timeout(micros.get());
    submitter.register_napi(&mut napi).map_err(RingError::napi)
}

/// `IORING_REGISTER_SYNC_CANCEL`, which the ring's drop needs (Linux 6.0).
const REGISTER_SYNC_CANCEL: u8 = 24;
/// `IORING_REGISTER_ENABLE_RINGS`, the last thing a disabled ring is told.
const REGISTER_ENABLE_RINGS: u8 = 12;
/// `IORING_UNREGISTER_RING_FDS`, which the ring's drop needs, too (Linux 5.18).
const UNREGISTER_RING_FDS: u8 = 21;

/// From now on the ring takes only what an echo server does: it can open no file and start no
/// connection, whatever happens to this process. A seccomp filter cannot see inside a ring, this
/// can (io_uring_register(2), IORING_REGISTER_RESTRICTIONS, Linux 5.10).
pub(super) fn restrict(submitter: &Submitter<'_>, features: Features) -> io::Result<()> {
    let operations = [
        opcode::AcceptMulti::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::Close::CODE,
        opcode::AsyncCancel2::CODE,
        opcode::PollAdd::CODE,
        // Of what a socket's command can do, a server asks for the unsent bytes.
        opcode::UringCmd16::CODE,
    ];
    let peers = features.peers.then_some(opcode::FixedFdInstall::CODE);
    let operations = operations.into_iter().chain(peers);
    let mut rules: Vec<Restriction> = operations.map(Restriction::sqe_op).collect();
    rules.push(Restriction::sqe_flags_allowed(u8::MAX));
    rules.push(Restriction::register_op(REGISTER_SYNC_CANCEL));
    rules.push(Restriction::register_op(REGISTER_ENABLE_RINGS));
    rules.push(Restriction::register_op(UNREGISTER_RING_FDS));
    submitter.register_restrictions(&mut rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_memory_is_asked_again_and_other_errors_are_not() {
        let mut calls = 0;
        let outcome = retry_no_memory(|| {
            calls += 1;
            if calls < 3 { Err(Errno::NOMEM.into()) } else { Ok(calls) }
        });
        assert_eq!(outcome.expect("the third attempt"), 3);
        let mut calls = 0;
        let refused: io::Result<()> = retry_no_memory(|| {
            calls += 1;
            Err(Errno::PERM.into())
        });
        assert_eq!((refused.is_err(), calls), (true, 1));
    }
}
