//! Peers of direct descriptors: a descriptor of the process names the socket for as long as
//! getpeername(2) takes, because a ring has no operation for that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::opcode;
use rustix::io::Errno;
use rustix::net::getpeername;

use super::{Direct, Op, Ring, Token};

/// Results of look-ups that were reaped and not yet taken.
#[derive(Debug, Default)]
pub(super) struct FoundPeers(VecDeque<Result<SocketAddr, Errno>>);

impl FoundPeers {
    /// A look-up has completed: with a descriptor, which is closed here, or an error.
    pub(super) fn record(&mut self, installed: Result<u32, Errno>) {
        self.0.push_back(installed.and_then(|fd| {
            let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
            // SAFETY: the kernel has just installed this descriptor for a look-up, whose only
            // completion is handled once; nobody else knows of it.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let peer = getpeername(&socket)?;
            SocketAddr::try_from(peer.ok_or(Errno::NOTCONN)?)
        }));
    }
}

impl Ring {
    /// Looks up the peer of `socket`, for [`Self::found_peer`] after the completion. It takes a
    /// descriptor of the process for a moment (IORING_OP_FIXED_FD_INSTALL, Linux 6.8; only if
    /// [`Setup::peers`](super::Setup::peers) asked for it and
    /// [`Features::peers`](super::Features::peers) tells that it is there).
    pub fn look_up_peer(&mut self, socket: Direct, token: Token) {
        self.queue(Op::Peer, token, |memory, _| {
            opcode::FixedFdInstall::new(memory.directs.slot(socket), 0).build()
        });
    }

    /// What the oldest completed look-up that was not asked for yet has found.
    ///
    /// # Errors
    /// EMFILE without a free descriptor, ENOTCONN if the peer has reset the connection already.
    pub fn found_peer(&mut self) -> Option<Result<SocketAddr, Errno>> {
        self.memory.peers.0.pop_front()
    }
}
