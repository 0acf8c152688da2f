//! What carries the connections of a generator thread: a ring, or plain calls and epoll.
//!
//! The event loop is the same over either and knows only [`Transport`]. A thread chooses once, so
//! that nothing is dispatched dynamically per operation.

mod epoll;
mod ring;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{getpeername, getsockname, sockopt};
use uring_echo::ring::{Op, Token};

pub(super) use self::epoll::EpollTransport;
pub(super) use self::ring::RingTransport;
pub(super) use uring_echo::ring::Completion;

use super::GenerateError;
use super::table::SlotId;

/// Which transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// io_uring.
    Uring,
    /// Non-blocking sockets and epoll(7).
    Epoll,
}

impl TransportKind {
    /// The name on the command line and in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Operations on the sockets of one thread, and their completions.
///
/// A transport owns the socket of a connection from [`connect`](Self::connect) to
/// [`close`](Self::close), the bytes that sends read from, and the buffers that receives fill. At
/// most one connect, one receive and one send that the kernel has not taken whole are in progress
/// per connection; each ends with exactly one [`Completion`], a cancelled one with ECANCELED. A
/// completion comes out of [`reap`](Self::reap), never out of the call that asked for the
/// operation.
pub(super) trait Transport: Debug + Sized {
    /// Whether its sockets have to be non-blocking.
    const NONBLOCKING: bool;

    /// Allocates everything that the operations need, on the thread that will use it.
    fn new(spec: &TransportSpec<'_>) -> Result<Self, GenerateError>;

    /// What the system could not give, and the consequence of each.
    fn degraded(&self) -> &[String];

    /// Calls connect, and asks at once for its completion, which the next [`reap`](Self::reap)
    /// brings if it is there. Nothing else enters the kernel between the instants of the span.
    fn connect(&mut self, id: SlotId, socket: OwnedFd) -> Result<CallSpan, GenerateError>;

    /// What became of a connect that has completed.
    fn handshake(&self, id: SlotId) -> Handshake;

    /// Another completion of the connect, when it is no longer [`Handshake::UnderWay`].
    fn await_connect(&mut self, id: SlotId);

    /// Receives once, into a buffer that is held until [`release`](Self::release).
    fn receive(&mut self, id: SlotId);

    /// Sends these bytes of the payload, all of them.
    fn send(&mut self, id: SlotId, bytes: Range<usize>);

    /// Ends what is in progress on the connection.
    fn cancel(&mut self, id: SlotId);

    /// Closes the socket; nothing is in progress on it.
    fn close(&mut self, id: SlotId);

    /// The client's address, once connect has been called.
    fn local_addr(&self, id: SlotId) -> Option<SocketAddr>;

    /// Hands over to the kernel what it was not told yet.
    fn submit(&mut self) -> Result<(), GenerateError>;

    /// Finds out what has completed, without waiting. More may be left than it finds at once.
    fn poll(&mut self) -> Result<(), GenerateError>;

    /// Takes what was found, oldest first, into `batch`, which has room for some and does not grow.
    fn reap(&mut self, batch: &mut Vec<Completion>);

    /// Sleeps until something completes, for `limit` at most.
    fn wait(&mut self, limit: Duration) -> Result<(), GenerateError>;

    /// The first `len` bytes of a held buffer.
    fn bytes(&self, buffer: u16, len: u32) -> &[u8];

    /// Takes a held buffer back.
    fn release(&mut self, buffer: u16);
}

/// What a transport is made for.
#[derive(Debug)]
pub(super) struct TransportSpec<'a> {
    /// Where all connections go.
    pub(super) target: SocketAddr,
    /// Connections at once, at most; the slots of all ids are below this.
    pub(super) slots: u32,
    /// The bytes that sends name a range of.
    pub(super) payload: &'a [u8],
    /// Bytes of the longest message.
    pub(super) message: u32,
}

/// The instants of a connect, monotonic nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSpan {
    /// Right before the call.
    pub(super) called_ns: u64,
    /// Right after it.
    pub(super) returned_ns: u64,
    /// Right after its completion was asked for.
    pub(super) asked_ns: u64,
}

/// What became of a handshake.
///
/// The completion of a connect is no proof: an ICMP error that arrives while the call holds the
/// socket, as all do over loopback, is only noted (`sk_err_soft`), the SYN is going to be repeated,
/// and a ring reports success. SO_ERROR tells of such an error, and an unconnected socket has no
/// peer (getpeername(2), ENOTCONN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The socket is connected.
    Over,
    /// The peer or the path refused it, or the connection is gone again.
    Failed(Errno),
    /// Neither: the SYN waits for an answer.
    UnderWay,
}

impl Handshake {
    fn of(socket: impl AsFd) -> Self {
        if getpeername(&socket).is_ok() {
            return Self::Over;
        }
        match sockopt::socket_error(&socket) {
            Ok(Err(errno)) | Err(errno) => Self::Failed(errno),
            Ok(Ok(())) => Self::UnderWay,
        }
    }
}

impl TransportSpec<'_> {
    /// Bytes of a receive buffer: a small message and the stamp before it fit one.
    fn buffer_size(&self) -> u32 {
        let message = self.message.saturating_add(STAMP_ROOM);
        let size = message.checked_next_power_of_two().unwrap_or(BUFFER_MAX);
        size.clamp(BUFFER_MIN, BUFFER_MAX)
    }
}

fn token(op: Op, id: SlotId) -> Token {
    Token::new(op, id.index(), id.generation())
}

fn local_addr(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

/// Receive buffers of a thread. Each completion that waits to be handled may hold one.
const BUFFERS: u16 = 512;
const STAMP_ROOM: u32 = 64;
const BUFFER_MIN: u32 = 4096;
const BUFFER_MAX: u32 = 64 * 1024;
