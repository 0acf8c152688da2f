//! Accepted sockets: which operations are armed on each, and its readiness.

use std::os::fd::OwnedFd;

use crate::echo::{ConnId, SocketId};
use crate::slots::{SlotId, Slots};

/// One accepted socket.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// The connection whose receive is armed.
    pub(super) reader: Option<ConnId>,
    /// Bytes or the end of the stream may be there: the last read did not return EAGAIN.
    pub(super) readable: bool,
    /// A short read does not mean that the socket is empty: the peer has ended its stream, reset
    /// the connection or sent urgent data. Reads are then repeated until one returns EAGAIN.
    pub(super) reads_stop_short: bool,
    /// It is in the queue of sockets to be read.
    pub(super) queued: bool,
    /// The connection that waits until it is writable.
    pub(super) watcher: Option<ConnId>,
}

/// Names an accepted socket in epoll data: readiness reported for an earlier socket of the same
/// slot does not reach the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketKey(SlotId);

/// The top bit of epoll data, never set in those of a [`SocketKey`].
pub(super) const NOT_A_SOCKET: u64 = 1 << 63;

impl SocketKey {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.0.generation()) << 32 | u64::from(self.0.index())
    }

    /// The key of bits that [`to_bits`](Self::to_bits) made.
    pub(super) fn from_bits(bits: u64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
        let (index, generation) = (bits as u32, (bits >> 32) as u32);
        Self(SlotId::new(index, generation))
    }

    pub(super) fn socket(self) -> SocketId {
        SocketId(self.0.index())
    }
}

/// The accepted sockets of one worker.
pub(super) struct Sockets(Slots<Socket>);

impl Sockets {
    pub(super) fn new(count: u32) -> Self {
        Self(Slots::new(count))
    }

    /// # Panics
    /// If every slot is used: the shard never asks for more connections than there are slots.
    pub(super) fn insert(&mut self, fd: OwnedFd) -> SocketKey {
        let id = self.0.insert(Socket {
            fd,
            reader: None,
            readable: false,
            reads_stop_short: false,
            queued: false,
            watcher: None,
        });
        SocketKey(id.expect("a slot for each connection asked for"))
    }

    pub(super) fn remove(&mut self, socket: SocketId) -> Socket {
        self.0.remove(self.key(socket).0).expect("closed once")
    }

    pub(super) fn at(&mut self, socket: SocketId) -> &mut Socket {
        self.0.at_mut(socket.0)
    }

    pub(super) fn key(&self, socket: SocketId) -> SocketKey {
        SocketKey(self.0.id_at(socket.0).expect("open until it is closed"))
    }

    /// Whether the socket that `key` was made for is still open.
    pub(super) fn is_current(&self, key: SocketKey) -> bool {
        self.0.get(key.0).is_some()
    }
}
