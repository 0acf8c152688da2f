//! The interface between an engine and the [`Shard`](super::Shard): events in, actions out.

use super::ConnId;

/// A receive buffer of the worker's pool, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufId(pub u16);

/// What the engine calls an accepted socket: a direct-descriptor slot or a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u32);

/// One of the worker's listening sockets, by position in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u8);

/// Nanoseconds on a clock that only moves forward; its origin is the engine's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// `span` later; the end of time at the latest.
    #[must_use]
    pub fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A peer's address folded to a number, for counting connections per peer.
/// IPv4 addresses are mapped into IPv6 (RFC 4291 §2.5.5.2), so both families share one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(pub u128);

/// `len` bytes of buffer `buf`, from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The buffer that holds the bytes.
    pub buf: BufId,
    /// The first byte, counted from the start of the buffer.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
}

/// How many connections an armed accept may bring before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// Exactly one: safe however few slots are left.
    One,
    /// As many as arrive (a multishot accept), until it is cancelled or ends by itself.
    Many,
}

/// Why an accept is no longer armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEnd {
    /// It did its job: one connection brought, or the kernel ended the multishot without an error.
    Complete,
    /// The shard's own [`Action::CancelAccept`] took effect.
    Cancelled,
    /// One pending connection went away before it was taken (ECONNABORTED, EPROTO, EINTR).
    Aborted,
    /// The system is short of something (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    Exhausted,
    /// The listener itself is unusable (EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP).
    Fatal,
}

/// Why a receive is no longer armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEnd {
    /// It brought what it was armed for, or the kernel ended it earlier without an error.
    Complete,
    /// The peer sent its last byte.
    Eof,
    /// The pool was empty (ENOBUFS).
    NoBuffers,
    /// [`Action::CancelRecv`] or [`Action::CancelAll`] took effect.
    Cancelled,
    /// The connection is gone (ECONNRESET and its kin).
    Failed,
}

/// What happened.
///
/// A completion that both carries data and ends its operation is two events, data first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The kernel handed over a new connection. `peer` is known only where it is asked for.
    Accepted {
        /// Which listener it came from.
        listener: ListenerId,
        /// The engine's name for the new socket.
        socket: SocketId,
        /// Who it is, when connections are counted per peer.
        peer: Option<PeerKey>,
    },
    /// The accept of `listener` is no longer armed.
    AcceptEnded {
        /// Which listener.
        listener: ListenerId,
        /// Why.
        end: AcceptEnd,
    },
    /// `len > 0` bytes arrived at the start of `buf`, which now belongs to the shard.
    Received {
        /// Whose bytes; may be stale.
        conn: ConnId,
        /// Where they are.
        buf: BufId,
        /// How many.
        len: u32,
        /// The next event brings more bytes of the same receive: nothing is sent before.
        continues: bool,
    },
    /// The armed receive is over.
    RecvEnded {
        /// Whose; may be stale.
        conn: ConnId,
        /// Why.
        end: RecvEnd,
    },
    /// The send in flight ended having taken `len` bytes: fewer than asked, or none, if the socket
    /// has no room for more.
    Sent {
        /// Whose; may be stale.
        conn: ConnId,
        /// How many bytes the kernel took.
        len: u32,
    },
    /// The send in flight failed or was cancelled: the connection is gone.
    SendFailed {
        /// Whose; may be stale.
        conn: ConnId,
    },
    /// The wait for a writable socket is over: it is writable, broken, or
    /// [`Action::CancelAll`] took effect.
    Writable {
        /// Whose; may be stale.
        conn: ConnId,
    },
    /// How many bytes the socket took and the peer's system has not acknowledged.
    Unsent {
        /// Whose; may be stale.
        conn: ConnId,
        /// `None` if this kernel cannot tell.
        bytes: Option<u32>,
    },
    /// The socket is closed and its number may be used again.
    Closed {
        /// Whose.
        conn: ConnId,
    },
    /// Time passed: `now` is at or after [`Shard::deadline`](super::Shard::deadline).
    Tick,
    /// Begin accepting.
    Start,
    /// Stop accepting; go on serving what is connected until each peer is done.
    Drain,
    /// Close everything now, whatever is owed.
    Stop,
}

/// Where the bytes of a send come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// The connection's greeting (the stamp frame), from byte `offset` on.
    Greeting {
        /// Bytes of the greeting already sent.
        offset: u32,
        /// Bytes of the greeting still to send.
        len: u32,
    },
    /// These spans, in this order: at most [`MAX_SPANS`](super::MAX_SPANS) of them, none empty.
    Spans(&'a [Span]),
}

/// What the engine is to do, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Arm an accept on `listener`. Never asked for while one is armed there.
    ArmAccept {
        /// Which listener.
        listener: ListenerId,
        /// How many connections it may bring.
        burst: Burst,
    },
    /// End the armed accept; [`Event::AcceptEnded`] follows in any case.
    CancelAccept {
        /// Which listener.
        listener: ListenerId,
    },
    /// Arm a receive. Never asked for while one is armed.
    ArmRecv {
        /// For whom.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
        /// The most buffers it may fill; an engine may end it earlier.
        max_buffers: u8,
    },
    /// End the armed receive; [`Event::RecvEnded`] follows in any case.
    CancelRecv {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
    },
    /// Send these bytes, as far as the socket has room for them, without waiting. Never asked for
    /// while a send of this connection is in flight.
    Send {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
        /// Which bytes.
        source: Source<'a>,
    },
    /// Wait until the socket is writable; [`Event::Writable`] follows in any case.
    WatchWritable {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
    },
    /// Find out how many bytes are unsent; [`Event::Unsent`] follows in any case.
    AskUnsent {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
    },
    /// Copy `span` to byte `at` of `to`: small pieces are gathered, so that one byte at a time
    /// does not occupy a buffer a byte.
    Copy {
        /// What to copy.
        span: Span,
        /// The buffer copied into.
        to: BufId,
        /// Where in it.
        at: u32,
    },
    /// Give `buf` back to the pool.
    Release {
        /// Which buffer.
        buf: BufId,
    },
    /// Cancel whatever is in flight on this socket; each operation still ends with its own event. A
    /// send never waits, so that one in flight ends by itself.
    CancelAll {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
        /// A receive is armed.
        receives: bool,
        /// It is waited until the socket is writable.
        watches: bool,
    },
    /// Close the socket; nothing of it is in flight. [`Event::Closed`] follows.
    Close {
        /// Whose.
        conn: ConnId,
        /// On which socket.
        socket: SocketId,
        /// Every byte owed was sent and the peer's end of stream was read, so that close(2) sends a
        /// FIN and the peer sees an orderly end.
        orderly: bool,
    },
}
