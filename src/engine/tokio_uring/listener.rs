//! One listening socket: accept, and close once the server has drained.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{Shutdown, shutdown};
use rustix::time::Timespec;
use tokio_uring::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::shutdown::Phase;

/// A listening socket, perhaps shared with other workers.
pub(super) struct Listener {
    socket: Arc<OwnedFd>,
    accepting: TcpListener,
}

impl Listener {
    pub(super) fn new(socket: &Arc<OwnedFd>) -> io::Result<Self> {
        let accepting = TcpListener::from_std(StdListener::from(socket.try_clone()?));
        Ok(Self { socket: Arc::clone(socket), accepting })
    }

    /// Accepts one connection.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accepting.accept().await
    }

    /// Whether nothing is to be accepted any more: while the server drains, once the queue is
    /// empty, and once it stops. Shuts the listener down then; accepted connections are not
    /// affected.
    ///
    /// Connections established before the drain began are in the queue. Every worker that shares
    /// the queue calls this after each accept, so it is emptied before it is shut down.
    pub(super) fn close_if_drained(&self, phase: Phase) -> bool {
        let done = match phase {
            Phase::Serving => false,
            Phase::Draining => !self.has_queued(),
            Phase::Stopping => true,
        };
        if done {
            // This ends the accept in flight (EINVAL), in every worker that shares the socket.
            match shutdown(&self.socket, Shutdown::Read) {
                // Not connected: another worker has shut it down before.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => warn!(%error, "a listener could not be shut down"),
            }
        }
        done
    }

    fn has_queued(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = retry_on_intr(|| poll(&mut fds, Some(&now)));
        // A listener that was shut down reports a hang-up.
        let events = fds[0].revents();
        polled.is_ok() && events.contains(PollFlags::IN) && !events.contains(PollFlags::HUP)
    }
}
