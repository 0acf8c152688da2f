//! Sends: what the socket has room for, at once.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use super::Epoll;
use crate::echo::{ConnId, Event, SocketId, Source, Span};
use crate::stamp::FRAME_LEN;

impl Epoll {
    pub(super) fn send(&mut self, now: u64, conn: ConnId, slot: SocketId, source: Source<'_>) {
        let sent = match source {
            Source::Greeting { offset, len } => {
                let start = conn.index() as usize * FRAME_LEN;
                // The shard asks for it while it handles the accept, so `now` is the accept's time.
                if offset == 0 {
                    let stamper = self.stamper.as_mut().expect("a greeting is a stamp");
                    self.staging[start..start + FRAME_LEN].copy_from_slice(&stamper.next(now));
                }
                let start = start + offset as usize;
                let socket = self.sockets.at(slot).fd.as_fd();
                send_bytes(socket, &self.staging[start..start + len as usize])
            }
            Source::Spans(spans) => self.send_spans(slot, spans),
        };
        self.completed.push_back(sent_event(conn, sent));
    }

    fn send_spans(&mut self, slot: SocketId, spans: &[Span]) -> Result<usize, Errno> {
        let socket = self.sockets.at(slot).fd.as_fd();
        if let [span] = spans {
            return send_bytes(socket, self.pool.bytes(span));
        }
        let slices = &self.pool.slices(spans)[..spans.len()];
        let mut none = SendAncillaryBuffer::default();
        retry_on_intr(|| sendmsg(socket, slices, &mut none, SendFlags::NOSIGNAL))
    }
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(socket, bytes, SendFlags::NOSIGNAL))
}

fn sent_event(conn: ConnId, sent: Result<usize, Errno>) -> Event {
    match sent {
        Ok(len) => Event::Sent { conn, len: u32::try_from(len).expect("at most a pool") },
        Err(Errno::AGAIN) => Event::Sent { conn, len: 0 },
        Err(_) => Event::SendFailed { conn },
    }
}
