//! One listener: take a permit, accept into it, hand the connection on.

use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{Shutdown, shutdown};
use rustix::time::Timespec;
use tokio_uring::net::TcpListener;
use tracing::warn;

use super::worker::Worker;
use crate::clock::monotonic_ns;
use crate::echo::AcceptEnd;
use crate::engine::accepted::accept_end;
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

    /// Accepts until the server ends or the listener turns out to be unusable.
    pub(super) async fn accept_all(&self, worker: &Rc<Worker>) {
        while !self.close_if_drained(worker.phase()) {
            let Some(permit) = worker.permit().await else { return };
            // While this task waited for its permit, others may have emptied the queue.
            if self.close_if_drained(worker.phase()) {
                return;
            }
            let accepted = self.accepting.accept().await;
            let accepted_ns = monotonic_ns();
            match accepted {
                Ok((stream, peer)) => worker.start_connection(stream, peer, accepted_ns, permit),
                Err(error) => {
                    drop(permit);
                    if !worker.recover_from_accept_error(end_of(&error), &error).await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there is nothing to accept any more: once the server drains and nobody is queued,
    /// and once it stops. Closes the listener then; what is connected is not affected.
    ///
    /// Whoever was connected when the drain began is in the queue, and whoever takes the last one
    /// out of it, in this worker or in one that shares the queue, comes by here next.
    pub(super) fn close_if_drained(&self, phase: Phase) -> bool {
        let done = match phase {
            Phase::Serving => false,
            Phase::Draining => !self.has_queued(),
            Phase::Stopping => true,
        };
        if done {
            // This ends the accept in flight (EINVAL), in every worker that shares the socket.
            match shutdown(&self.socket, Shutdown::Read) {
                // Refused as not connected, it has been done before.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => warn!(%error, "a listener could not be shut down"),
            }
        }
        done
    }

    fn has_queued(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let looked = retry_on_intr(|| poll(&mut fds, Some(&now)));
        // A socket that listens no more hangs up.
        let seen = fds[0].revents();
        looked.is_ok() && seen.contains(PollFlags::IN) && !seen.contains(PollFlags::HUP)
    }
}

/// Why an accept brought nothing.
fn end_of(error: &io::Error) -> AcceptEnd {
    match Errno::from_io_error(error) {
        Some(errno) => accept_end(Err(errno)),
        // The crate's own error: a socket was accepted and its address not understood.
        None => AcceptEnd::Aborted,
    }
}
