//! Waiting until a socket is writable, and what it has not delivered yet.

use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{Shutdown, shutdown};
use tracing::{debug, warn};

use super::{Epoll, READS};
use crate::echo::{ConnId, Event, SocketId};
use crate::ring::unsent_bytes;

impl Epoll {
    /// Changing what is watched for looks at the socket anew, so that one that is writable already
    /// is reported (epoll_ctl(2)).
    pub(super) fn watch_writable(&mut self, conn: ConnId, slot: SocketId) {
        let key = self.sockets.key(slot);
        let socket = self.sockets.at(slot);
        socket.watcher = Some(conn);
        let (data, flags) = (EventData::new_u64(key.to_bits()), READS | EventFlags::OUT);
        let Err(error) = epoll::modify(&self.epoll, &socket.fd, data, flags) else { return };
        warn!(%error, "a connection is lost: its socket cannot be watched for room");
        if let Err(error) = shutdown(&socket.fd, Shutdown::Both) {
            debug!(%error, "shutting down a connection that is lost");
        }
        self.end_watch(slot);
    }

    pub(super) fn end_watch(&mut self, slot: SocketId) {
        if let Some(conn) = self.sockets.at(slot).watcher.take() {
            self.completed.push_back(Event::Writable { conn });
        }
    }

    pub(super) fn answer_unsent(&mut self, conn: ConnId, slot: SocketId) {
        let bytes = unsent_bytes(self.sockets.at(slot).fd.as_fd()).ok();
        self.completed.push_back(Event::Unsent { conn, bytes });
    }
}
