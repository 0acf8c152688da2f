//! Accepted sockets: which operations are armed on each, and its readiness.

use std::os::fd::OwnedFd;

use super::blocked::BlockedSend;
use crate::echo::{ConnId, SocketId};

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
    /// A send for which the socket had no space.
    pub(super) blocked: Option<(ConnId, BlockedSend)>,
    /// EPOLLOUT is watched for, from the first blocked send on.
    pub(super) watched_for_room: bool,
}

/// A socket together with how often its place was used: readiness reported for whoever was there
/// before is not taken for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) slot: SocketId,
    generation: u32,
}

/// The top bit of an epoll datum, never set in a [`Key`]'s.
pub(super) const NOT_A_SOCKET: u64 = 1 << 63;

impl Key {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot.0)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
        let (slot, generation) = (SocketId(bits as u32), (bits >> 32) as u32);
        Self { slot, generation }
    }
}

/// A fixed number of places.
pub(super) struct Sockets {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    socket: Option<Socket>,
}

impl Sockets {
    pub(super) fn new(count: u32) -> Self {
        Self {
            places: (0..count).map(|_| Place { generation: 0, socket: None }).collect(),
            free: (0..count).rev().collect(),
        }
    }

    /// # Panics
    /// If every place is taken: the shard never asks for more connections than there are places.
    pub(super) fn insert(&mut self, fd: OwnedFd) -> Key {
        let slot = self.free.pop().expect("a place for each connection asked for");
        let place = &mut self.places[slot as usize];
        place.socket = Some(Socket {
            fd,
            reader: None,
            readable: false,
            reads_stop_short: false,
            queued: false,
            blocked: None,
            watched_for_room: false,
        });
        Key { slot: SocketId(slot), generation: place.generation }
    }

    pub(super) fn remove(&mut self, slot: SocketId) -> Socket {
        let place = &mut self.places[slot.0 as usize];
        place.generation = (place.generation + 1) & (u32::MAX >> 1);
        self.free.push(slot.0);
        place.socket.take().expect("closed once")
    }

    pub(super) fn at(&mut self, slot: SocketId) -> &mut Socket {
        self.places[slot.0 as usize].socket.as_mut().expect("open until it is closed")
    }

    pub(super) fn key(&self, slot: SocketId) -> Key {
        Key { slot, generation: self.places[slot.0 as usize].generation }
    }

    /// Whether the socket that `key` was made for is still there.
    pub(super) fn is_current(&self, key: Key) -> bool {
        let place = &self.places[key.slot.0 as usize];
        place.generation == key.generation && place.socket.is_some()
    }
}
