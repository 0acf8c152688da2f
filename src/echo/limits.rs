//! The sizes and limits of a shard, resolved to plain numbers before it starts.

use super::Nanos;

/// The size of everything in a [`Shard`](super::Shard). No number is zero unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many listeners the shard accepts from.
    pub listeners: u8,
    /// How many connections may be open at once, closing ones included.
    pub max_connections: u32,
    /// The most connections that one armed [`Burst::Many`](super::Burst::Many) can still bring
    /// after its cancel was asked for (the size of the completion queue, for io_uring).
    pub accept_burst: u32,
    /// How many receive buffers the pool has.
    pub buffers: u16,
    /// The size of each, in bytes.
    pub buffer_size: u32,
    /// How many bytes of pool one connection may hold before its receive is stopped. Whole
    /// buffers count, however full; at least one buffer.
    pub credit: u32,
    /// Length of what every connection is sent first, in bytes; 0 for nothing, at most 255.
    pub greeting: u32,
    /// How many connections one peer may have; more are closed on arrival.
    pub max_per_ip: Option<u32>,
    /// A connection without a byte either way for this long is closed, at most 1/8 later.
    pub idle_timeout: Option<Nanos>,
    /// A peer that takes less than [`min_drain`](Self::min_drain) within this time, while it is to
    /// take something, is given up, at most 1/8 later.
    pub write_timeout: Option<Nanos>,
    /// The fewest bytes that a peer is to take within the write timeout.
    pub min_drain: u32,
    /// How long a drain waits for connections to end by themselves.
    pub drain_timeout: Option<Nanos>,
    /// How long to wait before an accept is armed again after the system was short of something.
    pub accept_backoff: Nanos,
    /// How long a peer may have no room for what it is owed before somebody who waits for a buffer
    /// may have those that are held for it.
    pub room_grace: Nanos,
}

impl Limits {
    /// Panics, naming the field, if a number makes no sense: a `Config` has been checked before.
    pub(super) fn assert_sound(&self) {
        assert!(self.listeners > 0, "listeners is 0");
        assert!(self.max_connections > 0, "max_connections is 0");
        assert!(self.accept_burst > 0, "accept_burst is 0");
        assert!(self.buffers > 0 && self.buffers < u16::MAX, "buffers is {}", self.buffers);
        assert!(self.buffer_size > 0, "buffer_size is 0");
        assert!(self.buffer_size <= 1 << 16, "buffer_size is {}", self.buffer_size);
        assert!(self.min_drain > 0, "min_drain is 0");
        assert!(self.credit >= self.buffer_size, "credit is less than one buffer");
        assert!(self.greeting <= 255, "greeting is {} bytes", self.greeting);
        assert!(self.accept_backoff.0 > 0, "accept_backoff is 0");
        assert!(self.room_grace.0 > 0, "room_grace is 0");
        let pool = u64::from(self.buffers) * u64::from(self.buffer_size);
        assert!(u32::try_from(pool).is_ok(), "a pool of {pool} bytes is 4 GiB or more");
        for timeout in [self.idle_timeout, self.write_timeout, self.drain_timeout] {
            assert!(timeout != Some(Nanos(0)), "a timeout is 0");
        }
        assert!(self.max_per_ip != Some(0), "max_per_ip is 0");
    }

    /// The credit in whole buffers, while the pool is full.
    pub(super) fn credit(&self) -> Credit {
        let stop = self.credit.div_ceil(self.buffer_size);
        let resume = self.credit / 2 / self.buffer_size;
        let whole = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Credit { stop: whole(stop), resume: whole(resume), looks_first: false }
    }
}

/// When one connection stops receiving, and when it goes on, in buffers held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    /// At this many its receive is cancelled.
    pub(super) stop: u16,
    /// At this many or fewer it is armed again: half of the credit, so that it does not flap.
    pub(super) resume: u16,
    /// The receive of a stream is armed only when the socket is writable, as if its peer were known
    /// to be slow: what it brings might have to be kept.
    pub(super) looks_first: bool,
}

/// A connection may hold more than one buffer only while more than this many quarters of the pool
/// are free: a peer that does not read may keep what it holds for ever, so most of the pool is kept
/// for connections that hold nothing yet, one buffer each.
const KEPT_QUARTERS: u32 = 3;

/// Of what is free beyond that, one connection may hold this share (dynamic thresholds, as in
/// shared-memory switches: Choudhury and Hahne, 1998). It is tested before a receive is armed; what
/// is armed already is bounded by the engine.
const SHARE_OF_FREE: u16 = 8;

impl Credit {
    /// The credit while only `free` of `all` buffers are left in the pool.
    pub(super) fn while_free(self, free: u16, all: u16) -> Self {
        let kept = u16::try_from(u32::from(all) * KEPT_QUARTERS / 4).expect("less than all");
        let stop = self.stop.min((free.saturating_sub(kept) / SHARE_OF_FREE).max(1));
        Self { stop, resume: self.resume.min(stop / 2), looks_first: free <= kept }
    }
}
