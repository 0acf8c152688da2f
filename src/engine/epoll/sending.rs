//! Sends: tried at once, and again when epoll reports the socket writable.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use tracing::warn;

use super::blocked::BlockedSend;
use super::{Epoll, READS};
use crate::echo::{ConnId, Event, SocketId, Source};
use crate::stamp::FRAME_LEN;

impl Epoll {
    pub(super) fn start_send(
        &mut self,
        now: u64,
        conn: ConnId,
        slot: SocketId,
        source: Source<'_>,
    ) {
        let (sent, blocked) = match source {
            Source::Greeting { offset, len } => {
                let start = conn.index() as usize * FRAME_LEN;
                // The shard asks for it while it handles the accept, so `now` is the accept's time.
                if offset == 0 {
                    let stamper = self.stamper.as_mut().expect("a greeting is a stamp");
                    self.staging[start..start + FRAME_LEN].copy_from_slice(&stamper.next(now));
                }
                let staged =
                    BlockedSend::Staged { start: start + offset as usize, len: len as usize };
                (self.try_send(slot, staged), staged)
            }
            Source::Spans(spans) => {
                let kept = BlockedSend::Spans(self.spans.keep(spans));
                (self.try_send(slot, kept), kept)
            }
        };
        if sent == Err(Errno::AGAIN) {
            return self.block(conn, slot, blocked);
        }
        self.forget(blocked);
        self.completed.push_back(sent_event(conn, sent));
    }

    fn block(&mut self, conn: ConnId, slot: SocketId, blocked: BlockedSend) {
        let key = self.sockets.key(slot);
        let socket = self.sockets.at(slot);
        socket.blocked = Some((conn, blocked));
        if std::mem::replace(&mut socket.watches_writable, true) {
            return;
        }
        let (data, flags) = (EventData::new_u64(key.to_bits()), READS | EventFlags::OUT);
        if let Err(error) = epoll::modify(&self.epoll, &socket.fd, data, flags) {
            warn!(%error, "a connection is lost: its socket cannot be watched for room");
            self.cancel_send(slot);
        }
    }

    pub(super) fn send_again(&mut self, slot: SocketId, events: &mut Vec<Event>) {
        let Some((conn, blocked)) = self.sockets.at(slot).blocked else { return };
        let sent = self.try_send(slot, blocked);
        if sent != Err(Errno::AGAIN) {
            self.sockets.at(slot).blocked = None;
            self.forget(blocked);
            events.push(sent_event(conn, sent));
        }
    }

    pub(super) fn cancel_send(&mut self, slot: SocketId) {
        if let Some((conn, blocked)) = self.sockets.at(slot).blocked.take() {
            self.forget(blocked);
            self.completed.push_back(Event::SendFailed { conn });
        }
    }

    fn forget(&mut self, blocked: BlockedSend) {
        if let BlockedSend::Spans(index) = blocked {
            self.spans.forget(index);
        }
    }

    fn try_send(&mut self, slot: SocketId, what: BlockedSend) -> Result<usize, Errno> {
        let socket = self.sockets.at(slot).fd.as_fd();
        match what {
            BlockedSend::Staged { start, len } => {
                send_bytes(socket, &self.staging[start..start + len])
            }
            BlockedSend::Spans(index) => match self.spans.get(index) {
                [span] => send_bytes(socket, self.pool.bytes(span)),
                spans => {
                    let slices = &self.pool.slices(spans)[..spans.len()];
                    let mut none = SendAncillaryBuffer::default();
                    retry_on_intr(|| sendmsg(socket, slices, &mut none, SendFlags::NOSIGNAL))
                }
            },
        }
    }
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(socket, bytes, SendFlags::NOSIGNAL))
}

fn sent_event(conn: ConnId, sent: Result<usize, Errno>) -> Event {
    match sent {
        Ok(len) => Event::Sent { conn, len: u32::try_from(len).expect("at most a pool") },
        Err(_) => Event::SendFailed { conn },
    }
}
