//! The Unix socket at which whoever serves can be asked for its listening sockets.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with, sockopt,
};
use rustix::process::{Uid, geteuid};
use tracing::warn;

use super::{Handover, Predecessor, TakeoverError, hand_over, os_error};
use crate::shutdown::Control;

/// The door of this process.
#[derive(Debug)]
pub(crate) struct Door {
    socket: OwnedFd,
    /// Only this user and root may take over.
    owner: Uid,
}

/// What there is at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// Somebody serves.
    Predecessor(Predecessor),
    /// Nobody did: this process has the door now.
    Nobody(Door),
}

impl Door {
    pub(super) fn inherited(socket: OwnedFd) -> Self {
        Self { socket, owner: geteuid() }
    }

    /// Takes over from whoever serves at `path`, or makes a door there. Of two processes that start
    /// at once the second waits for the first to have done this (a lock beside the path).
    ///
    /// # Errors
    /// [`TakeoverError`]; whoever serves goes on.
    pub(crate) fn find(path: &Path) -> Result<Found, TakeoverError> {
        let os = |step| move |source: Errno| os_error(path, step, source);
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = open(beside, flags, Mode::RUSR | Mode::WUSR).map_err(os("opening its lock"))?;
        retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).map_err(os("locking"))?;
        let address = SocketAddrUnix::new(path).map_err(os("the path"))?;
        let link = new_socket().map_err(os("socket"))?;
        match retry_on_intr(|| connect(&link, &address)) {
            Ok(()) => return Predecessor::ask(path, link).map(Found::Predecessor),
            Err(Errno::NOENT) => {}
            // Left by one that has ended.
            Err(Errno::CONNREFUSED) => remove_socket(path)?,
            Err(error) => return Err(os_error(path, "connecting to who serves there", error)),
        }
        let socket = new_socket().map_err(os("socket"))?;
        bind(&socket, &address).map_err(os("bind"))?;
        listen(&socket, 16).map_err(os("listen"))?;
        Ok(Found::Nobody(Self { socket, owner: geteuid() }))
    }

    /// Waits for successors until one has taken over, or the server stops otherwise. `admin` is the
    /// listener of the admin endpoint. True if a successor has everything now.
    pub(crate) fn keep(self, control: &Control, admin: Option<&OwnedFd>) -> bool {
        while self.is_knocked(control) {
            let Ok(link) = accept_with(&self.socket, SocketFlags::CLOEXEC) else { continue };
            if !self.may_take_over(&link) {
                continue;
            }
            let handed_on = control.hand_on(|sockets, kept_open| {
                let handover = Handover {
                    sockets: sockets.iter().map(|socket| socket.as_fd()).collect(),
                    admin: admin.map(AsFd::as_fd),
                    door: self.socket.as_fd(),
                    kept_open,
                };
                match hand_over(&link, handover) {
                    Ok(true) => true,
                    Ok(false) => {
                        warn!("a successor ended before it was ready: going on");
                        false
                    }
                    Err(error) => {
                        warn!(%error, "handing over to a successor failed: going on");
                        false
                    }
                }
            });
            if handed_on {
                return true;
            }
        }
        false
    }

    /// True if there is a successor, false once the server stops.
    fn is_knocked(&self, control: &Control) -> bool {
        let wake_fd: &Arc<OwnedFd> = control.door_wake_fd();
        let mut fds =
            [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(wake_fd, PollFlags::IN)];
        let polled = retry_on_intr(|| poll(&mut fds, None));
        polled.is_ok() && fds[1].revents().is_empty()
    }

    fn may_take_over(&self, link: &OwnedFd) -> bool {
        match sockopt::socket_peercred(link) {
            Ok(peer) if peer.uid == self.owner || peer.uid.is_root() => true,
            Ok(peer) => {
                warn!(uid = peer.uid.as_raw(), "another user asked to take over: refused");
                false
            }
            Err(error) => {
                warn!(%error, "who asks to take over is not known: refused");
                false
            }
        }
    }
}

/// One that keeps packets apart.
fn new_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn remove_socket(path: &Path) -> Result<(), TakeoverError> {
    let failed = |step| move |source| TakeoverError::Os { path: path.to_owned(), step, source };
    let there = fs::symlink_metadata(path).map_err(failed("looking at the path"))?;
    if !there.file_type().is_socket() {
        return Err(TakeoverError::NotASocket(path.to_owned()));
    }
    fs::remove_file(path).map_err(failed("removing what a predecessor left"))
}
