//! The io_uring fence: the only module that talks to io_uring and the only unsafe code.
//!
//! A [`Ring`] owns every byte the kernel may read or write on its behalf: receive buffers, staged
//! outgoing bytes, argument blocks, accept addresses. Callers name bytes by buffer id and range,
//! sockets by [`Handle`], operations by [`Token`]; no address ever crosses the fence, so nothing
//! outside can make the kernel touch freed memory. Nor does a bare descriptor: a socket is one that
//! the ring's own table handed out, or is kept open until the kernel has consumed the entry that
//! names it. When a ring is dropped, everything in flight is
//! cancelled and joined first; memory the kernel might still use is leaked rather than freed.
//!
//! A ring belongs to the thread that made it (SINGLE_ISSUER), which the type system enforces.

mod accept_queue;
mod accepted;
mod arguments;
mod calls;
mod combined_wait;
mod diagnosis;
mod direct;
mod error;
mod files;
mod memory;
mod operations;
mod outgoing;
mod peers;
mod pool;
mod queues;
mod region;
mod reuseport;
mod setup;
mod staging;
mod token;
mod unsent;

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::time::Duration;

use io_uring::cqueue;
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Timespec};
use rustix::io::Errno;

pub use self::accept_queue::{AcceptQueue, accept_queue};
pub use self::arguments::MAX_PIECES;
pub use self::diagnosis::{Diagnosis, Environment};
pub use self::direct::Direct;
pub use self::error::RingError;
pub use self::operations::MAX_BUNDLE;
pub use self::operations::{Handle, Piece};
pub use self::outgoing::SocketOption;
pub use self::reuseport::{forget_cpus, steer_by_filter};
pub(crate) use self::setup::retry_no_memory;
pub use self::setup::{Features, Setup};
pub use self::token::{Op, Token};
pub use self::unsent::unsent_bytes;

use self::combined_wait::CombinedWait;
use self::memory::Memory;
use self::queues::{FreeSlot, Queues, Wait};

/// The most sends that one call carries out. A call for all that a turn of a busy server has would
/// let hundreds of peers wait for the last of them. What a connection needs would have left the
/// caches before its send. And most kernels do not interrupt a call for another thread, but let the
/// one that made it wait afterwards, the longer it took.
const SENDS_PER_CALL: u32 = 32;

/// One finished step of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Which operation.
    pub token: Token,
    /// What it returned: a byte count, a descriptor, nothing in particular, or an error.
    pub result: Result<u32, Errno>,
    /// The receive buffer it filled; held until [`Ring::release`].
    pub buffer: Option<u16>,
    /// The same receive has filled the buffer of the next completion, too, with the bytes behind
    /// these.
    pub continues: bool,
    /// The operation stays armed and will complete again.
    pub more: bool,
}

/// A submission queue, a completion queue and the memory they refer to.
pub struct Ring {
    queues: ManuallyDrop<Queues>,
    memory: Memory,
    completion_slots: u32,
    features: Features,
    degraded: Vec<String>,
    combined: CombinedWait,
    /// Operations without their last completion. What completes only when it fails does not count:
    /// once consumed it refers to no memory.
    in_flight: u32,
    fault: Option<RingError>,
    /// A submission was lost: what is queued behind it must not be submitted any more.
    broken: bool,
    not_send: PhantomData<*mut ()>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("memory", &self.memory)
            .field("degraded", &self.degraded)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread: disabled, filled, restricted if asked, then enabled.
    ///
    /// # Errors
    /// [`RingError`] with the likely cause if the kernel refuses or lacks what is needed.
    pub fn new(setup: &Setup) -> Result<Self, RingError> {
        let (uring, mut degraded) = setup::build(setup)?;
        let features = setup::probe(&uring, setup)?;
        if setup.peers && !features.peers {
            degraded.push("peers are logged without address (needs Linux 6.8)".to_owned());
        }
        let combined = CombinedWait::new(uring.params().is_feature_min_timeout());
        let (slots, completion_slots) = (uring.params().sq_entries(), uring.params().cq_entries());
        // Made before anything is registered, so that a step that fails frees all of it.
        let mut ring = Self {
            queues: ManuallyDrop::new(Queues::new(uring)),
            memory: Memory::new(setup, slots),
            completion_slots,
            features,
            degraded,
            combined,
            in_flight: 0,
            fault: None,
            broken: false,
            not_send: PhantomData,
        };
        ring.register(setup)?;
        Ok(ring)
    }

    /// Registers buffers and descriptors, restricts the ring if asked, and enables it.
    fn register(&mut self, setup: &Setup) -> Result<(), RingError> {
        let locked = setup.locked_bytes();
        let named = |step| move |error| RingError::setup(step, error, locked);
        let (pool, queues) = (&mut self.memory.pool, &mut self.queues);
        retry_no_memory(|| pool.register(queues.submitter()))
            .map_err(named("io_uring_register(PBUF_RING)"))?;
        if setup.direct > 0 {
            let registered = queues.submitter().register_files_sparse(setup.direct);
            registered.map_err(named("io_uring_register(FILES2)"))?;
        }
        if let Err(error) = queues.register_descriptor() {
            self.degraded.push(format!("ring descriptor not registered: {error}"));
        }
        let submitter = queues.submitter();
        if let Some(micros) = setup.napi {
            setup::poll_card(submitter, micros)?;
        }
        if setup.restricted {
            setup::restrict(submitter, self.features)
                .map_err(named("io_uring_register(RESTRICTIONS)"))?;
        }
        submitter.register_enable_rings().map_err(named("io_uring_register(ENABLE_RINGS)"))?;
        if setup.buffers > 0 {
            let known = self.try_limited_receive().map_err(|error| match error {
                // A filter may allow the set-up and not this call.
                RingError::Enter(error) => named("io_uring_enter")(error),
                other => other,
            })?;
            self.features.limited_receive = known;
            self.features.bundles &= known;
        }
        Ok(())
    }

    /// Whether a multishot receive may have a total limit. No probe shows it, but a receive on an
    /// invalid descriptor does: a kernel that knows the limit refuses the descriptor, an older one
    /// the limit.
    fn try_limited_receive(&mut self) -> Result<bool, RingError> {
        self.queue(Op::Call, Token::new(Op::Call, 0, 0), |_, _| {
            let nowhere = io_uring::types::Fd(-1);
            let mut entry = io_uring::opcode::RecvMulti::new(nowhere, pool::GROUP).build();
            operations::set_total_limit(&mut entry, 1);
            entry
        });
        let mut batch = Vec::with_capacity(1);
        while batch.is_empty() {
            self.wait(None)?;
            self.reap(&mut batch);
        }
        let known = batch[0].result == Err(Errno::BADF);
        if !known {
            self.degraded.push(
                "receives one at a time (multishot with a limit needs Linux 6.17)".to_owned(),
            );
        }
        Ok(known)
    }

    /// Features that this kernel lacks: one line each, empty on a current kernel.
    #[must_use]
    pub fn degraded(&self) -> &[String] {
        &self.degraded
    }

    /// Which optional operations there are.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Completion slots the kernel granted: the most completions one batch of work can bring.
    #[must_use]
    pub const fn completion_slots(&self) -> u32 {
        self.completion_slots
    }

    /// Submits what is queued and waits until a completion is there or `limit` has passed. Sends
    /// that take what their socket has room for are not waited for: their completions may be
    /// noticed [`combined_wait::WINDOW_US`] late.
    ///
    /// # Errors
    /// Only what waiting does not mend; a signal or the end of the limit is not an error.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<(), RingError> {
        let pending = self.is_ready();
        self.enter(match limit {
            _ if pending => Wait::Poll,
            Some(limit) => Wait::AtMost(limit),
            None => Wait::Forever,
        })
    }

    /// Submits what is queued and runs what the kernel has pending, without waiting. Does not
    /// enter the kernel at all when there is neither: cheap enough to spin on.
    ///
    /// # Errors
    /// As [`Self::wait`].
    #[inline]
    pub fn poll(&mut self) -> Result<(), RingError> {
        let queue = &self.queues.submissions;
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() && self.fault.is_none() {
            return Ok(());
        }
        self.enter(Wait::Poll)
    }

    /// Submits what is queued and returns at once: an operation that can finish immediately has
    /// been carried out, but its completion may need a [`Self::poll`] to appear.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn submit(&mut self) -> Result<(), RingError> {
        self.enter(Wait::No)
    }

    /// Whether completions are waiting to be reaped.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        self.queues.completions.sync();
        !self.queues.completions.is_empty()
    }

    /// Takes finished completions, oldest first, into `batch` (emptied before), a receive into
    /// several buffers as one for each. Takes at most as many as it has room for without growing,
    /// but always one of the kernel's.
    pub fn reap(&mut self, batch: &mut Vec<Completion>) {
        batch.clear();
        let longest = if self.features.bundles { MAX_BUNDLE } else { 1 };
        let room = batch.capacity();
        self.queues.completions.sync();
        while batch.is_empty() || batch.len() + longest <= room {
            let Some(entry) = self.queues.completions.next() else { break };
            decode(&entry, &mut self.memory, batch);
            let last = batch.last().expect("an entry is at least one completion");
            if !last.more && last.token.op().always_completes() {
                self.in_flight -= 1;
            }
        }
        self.queues.completions.sync();
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.memory.pool.provide();
        #[allow(clippy::cast_possible_truncation, reason = "at most 32768 entries")]
        let queued = if self.broken { 0 } else { self.queues.submissions.len() as u32 };
        let more = self.combined.more(wait.sleeps());
        let entered = self.queues.enter(queued, wait, more);
        self.memory.files.release(self.queues.pushed(), self.queues.submissions.len());
        self.queues.completions.sync();
        self.combined.ended(more, self.queues.completions.len());
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                // Nothing happened, the limit passed, or completions must be taken first.
                Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => Ok(()),
                _ => Err(RingError::Enter(error)),
            },
        }
    }

    /// A full queue is submitted to make room, again if the kernel was short of memory for a
    /// moment, and so is one with [`SENDS_PER_CALL`]. If that fails, the ring is broken and says so
    /// at the next [`Self::wait`] or [`Self::poll`].
    fn make_room(&mut self) {
        for attempt in 0..100 {
            let is_full = self.queues.submissions.is_full();
            let is_due = self.combined.sends() >= SENDS_PER_CALL;
            if !(is_full || is_due) || self.fault.is_some() {
                return;
            }
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            if let Err(error) = self.enter(Wait::No) {
                self.fault = Some(error);
            }
        }
    }

    /// Queues the entry that `build` makes. The token's operation has to be `op`: the count of
    /// operations in flight, and with it when memory may be freed, depends on it.
    fn queue(
        &mut self,
        op: Op,
        token: Token,
        build: impl FnOnce(&mut Memory, &FreeSlot<'_>) -> Entry,
    ) {
        assert_eq!(token.op(), op, "a token of another operation");
        self.make_room();
        let Some(slot) = self.queues.free_slot() else {
            self.broken = true;
            self.fault.get_or_insert(RingError::QueueStuck);
            return;
        };
        let entry = build(&mut self.memory, &slot).user_data(token.encode());
        // SAFETY: every entry is built in this module's `operations.rs`, `calls.rs`, `outgoing.rs`,
        // `peers.rs` or `try_limited_receive` and refers only to bytes of `self.memory`, which are
        // freed only after everything in flight has been joined, or never.
        unsafe { slot.push(&entry) };
        if token.op().always_completes() {
            self.in_flight += 1;
        }
    }

    /// Cancels what is in flight and waits, for a bounded time, until all of it has completed.
    /// True if nothing is left.
    fn join_in_flight(&mut self) -> bool {
        let mut batch = Vec::with_capacity(64);
        for _ in 0..16 {
            if self.in_flight == 0 {
                return true;
            }
            let second = Some(Timespec::new().sec(1));
            // The result of this call when nothing matches differs between kernels: only the count
            // of operations in flight decides.
            let cancelled =
                self.queues.submitter().register_sync_cancel(second, CancelBuilder::any());
            let entered = self.enter(Wait::AtMost(Duration::from_millis(10)));
            while self.is_ready() {
                self.reap(&mut batch);
            }
            if cancelled.is_err() && entered.is_err() {
                return false;
            }
        }
        self.in_flight == 0
    }
}

fn decode(entry: &cqueue::Entry, memory: &mut Memory, batch: &mut Vec<Completion>) {
    let token = Token::decode(entry.user_data()).expect("only tokens are ever submitted");
    let result = u32::try_from(entry.result())
        .map_err(|_| Errno::from_raw_os_error(entry.result().saturating_neg()));
    let more = cqueue::more(entry.flags());
    match (token.op(), result) {
        (Op::Recv, Err(Errno::NOBUFS)) => memory.pool.record_shortage(),
        (Op::Accept | Op::Socket, Ok(slot)) => memory.directs.opened(slot),
        (Op::Peer, result) => memory.peers.record(result),
        _ => {}
    }
    if token.op() == Op::Accept && !more {
        memory.accepted.end(token.index());
    }
    let Some(first) = cqueue::buffer_select(entry.flags()) else {
        return batch.push(Completion { token, result, buffer: None, continues: false, more });
    };
    let mut filled = memory.pool.take(first, result.unwrap_or(0));
    while filled.left > 0 {
        let result = Ok(filled.len);
        let buffer = Some(filled.buf);
        batch.push(Completion { token, result, buffer, continues: true, more: true });
        filled = memory.pool.take_next(filled);
    }
    let result = result.map(|_| filled.len);
    batch.push(Completion { token, result, buffer: Some(filled.buf), continues: false, more });
}

impl Drop for Ring {
    fn drop(&mut self) {
        let joined = self.join_in_flight();
        // SAFETY: `queues` is dropped here and nowhere else, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.queues) };
        if joined {
            // SAFETY: nothing of this ring is in flight, so the kernel has no use for the memory,
            // and `self` is going away.
            unsafe { self.memory.free() };
        }
    }
}

#[cfg(test)]
mod tests;
