//! Restart without loss: the listening sockets, queues and all, go from one process to the next.
//!
//! Whoever serves listens on a Unix socket, the *door*. A successor connects there, receives every
//! listening socket and the door itself (SCM_RIGHTS, unix(7)), starts, and says that it is ready;
//! only then does the predecessor stop accepting. A successor that ends before leaves it serving.
//!
//! One packet each: hello (magic, version) → header (magic, version, flags, number of descriptors)
//! and the descriptors, at most [`PER_PACKET`] each → ready. The descriptors are the listening
//! sockets, that of the admin endpoint if there is one, and the door.

mod door;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::io::{Errno, FdFlags, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};

pub(crate) use self::door::Door;
use self::door::Found;

const MAGIC: [u8; 8] = *b"UECHOTKO";
/// Of the exchange, not of the program: other versions are refused by name.
const VERSION: u8 = 2;
/// The kernel takes 253 at most (SCM_MAX_FD).
const PER_PACKET: usize = 64;
const HEADER_LEN: usize = 12;
/// Flags of the header: somebody else keeps the sockets open too; an admin endpoint's is there.
const KEPT_OPEN: u8 = 1;
const WITH_ADMIN: u8 = 2;

/// Where listening sockets came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the process that served before.
    Takeover,
    /// From a service manager, which keeps them open (`LISTEN_FDS`).
    Activation,
}

impl Origin {
    /// `takeover` or `activation`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Activation => "activation",
        }
    }
}

/// Why no predecessor could be taken over from.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// A call failed.
    #[error("--takeover {path}: {step}: {source}", path = path.display())]
    Os {
        /// The path given.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What a service manager passed is no listening socket.
    #[error("LISTEN_FDS: {0}; only listening TCP sockets can be served")]
    Activation(#[source] io::Error),
    /// Something else is there.
    #[error("--takeover {}: there is a file that is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The predecessor is of another release, or something else.
    #[error(
        "--takeover {path}: who serves there speaks version {theirs} of the exchange, this program \
         {VERSION}; it goes on serving: stop it and start anew",
        path = path.display()
    )]
    Version {
        /// The path given.
        path: PathBuf,
        /// What the predecessor speaks.
        theirs: u8,
    },
    /// The predecessor closed the connection, or sent something unknown.
    #[error(
        "--takeover {}: who serves there did not hand its sockets over; its log says why (another \
         user, or it is stopping)",
        .0.display()
    )]
    Refused(PathBuf),
}

/// The listening sockets of a predecessor that goes on serving until [`Self::ready`].
#[derive(Debug)]
pub(crate) struct Predecessor {
    link: OwnedFd,
    sockets: Vec<OwnedFd>,
    door: Option<Door>,
    /// The listener of its admin endpoint.
    admin: Option<OwnedFd>,
    /// Somebody else keeps them open too.
    kept_open: bool,
}

impl Predecessor {
    /// Asks whoever holds the other end of `link`.
    fn ask(path: &Path, link: OwnedFd) -> Result<Self, TakeoverError> {
        let os = |step| move |source: Errno| os_error(path, step, source);
        let hello: Vec<u8> = MAGIC.into_iter().chain([VERSION]).collect();
        send(&link, &hello, SendFlags::NOSIGNAL).map_err(os("sending"))?;
        let mut header = [0; HEADER_LEN];
        let (len, _) = receive(&link, &mut header).map_err(os("receiving"))?;
        if len != HEADER_LEN || header[..8] != MAGIC {
            return Err(TakeoverError::Refused(path.to_owned()));
        }
        if header[8] != VERSION {
            return Err(TakeoverError::Version { path: path.to_owned(), theirs: header[8] });
        }
        let count = usize::from(u16::from_le_bytes([header[10], header[11]]));
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let (len, received) = receive(&link, &mut [0]).map_err(os("receiving"))?;
            if len == 0 || received.is_empty() {
                return Err(TakeoverError::Refused(path.to_owned()));
            }
            sockets.extend(received);
        }
        let Some(door) = sockets.pop() else {
            return Err(TakeoverError::Refused(path.to_owned()));
        };
        let has = |flag| header[9] & flag != 0;
        Ok(Self {
            link,
            admin: if has(WITH_ADMIN) { sockets.pop() } else { None },
            sockets,
            door: Some(Door::inherited(door)),
            kept_open: has(KEPT_OPEN),
        })
    }

    /// Tells it that this process serves; it stops accepting. One that has ended in the meantime
    /// needs no telling.
    pub(crate) fn ready(self) {
        if let Err(error) = send(&self.link, b"r", SendFlags::NOSIGNAL) {
            tracing::warn!(%error, "the predecessor ended before it was told that this one serves");
        }
    }
}

/// The listening sockets that this process need not open.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) origin: Option<Origin>,
    pub(crate) predecessor: Option<Predecessor>,
    /// Where successors ask, if they may.
    pub(crate) door: Option<Door>,
    pub(crate) admin: Option<OwnedFd>,
    pub(crate) kept_open: bool,
}

/// Takes what there is: from whoever serves with this `path`, else from a service manager.
pub(crate) fn inherit(path: Option<&Path>) -> Result<Inheritance, TakeoverError> {
    let door = match path.map(Door::find).transpose()? {
        Some(Found::Predecessor(mut predecessor)) => {
            let sockets = std::mem::take(&mut predecessor.sockets);
            return Ok(Inheritance {
                sockets,
                origin: Some(Origin::Takeover),
                kept_open: predecessor.kept_open,
                door: predecessor.door.take(),
                admin: predecessor.admin.take(),
                predecessor: Some(predecessor),
            });
        }
        Some(Found::Nobody(door)) => Some(door),
        None => None,
    };
    let sockets = activated()?;
    let origin = (!sockets.is_empty()).then_some(Origin::Activation);
    let kept_open = origin.is_some();
    Ok(Inheritance { sockets, kept_open, origin, predecessor: None, door, admin: None })
}

/// The sockets that a service manager passed (sd_listen_fds(3)).
fn activated() -> Result<Vec<OwnedFd>, TakeoverError> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let listener = passed.take_tcp_listener(index).map_err(TakeoverError::Activation)?;
        sockets.extend(listener.map(OwnedFd::from));
    }
    for socket in &sockets {
        rustix::io::fcntl_setfd(socket, FdFlags::CLOEXEC)
            .map_err(|error| TakeoverError::Activation(error.into()))?;
    }
    Ok(sockets)
}

/// What is handed over.
struct Handover<'a> {
    sockets: Vec<BorrowedFd<'a>>,
    admin: Option<BorrowedFd<'a>>,
    door: BorrowedFd<'a>,
    kept_open: bool,
}

/// Gives it to the successor at the other end of `link`; true once that is ready.
fn hand_over(
    link: &OwnedFd,
    Handover { sockets, admin, door, kept_open }: Handover<'_>,
) -> Result<bool, Errno> {
    let mut hello = [0; 16];
    let (len, _) = receive(link, &mut hello)?;
    let same_version = len == 9 && hello[..8] == MAGIC && hello[8] == VERSION;
    let flag = |set, flag| if set { flag } else { 0 };
    let flags = flag(kept_open, KEPT_OPEN) | flag(admin.is_some(), WITH_ADMIN);
    let all: Vec<_> = sockets.into_iter().chain(admin).chain([door]).collect();
    let count = u16::try_from(all.len()).map_err(|_| Errno::TOOBIG)?;
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    (header[8], header[9]) = (VERSION, flags);
    header[10..].copy_from_slice(&count.to_le_bytes());
    send(link, &header, SendFlags::NOSIGNAL)?;
    if !same_version {
        return Err(Errno::PROTO);
    }
    for packet in all.chunks(PER_PACKET) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_PACKET))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(SendAncillaryMessage::ScmRights(packet)), "there is room for them");
        retry_on_intr(|| sendmsg(link, &[IoSlice::new(b"s")], &mut rights, SendFlags::NOSIGNAL))?;
    }
    // However long it takes to start: it ends or it is ready.
    let (len, _) = receive(link, &mut [0])?;
    Ok(len == 1)
}

/// One packet, empty at the end of the stream, with the descriptors in it.
fn receive(link: &OwnedFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_PACKET))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(link.as_fd(), &mut [IoSliceMut::new(bytes)], &mut rights, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let files = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok((received.bytes, files.flatten().collect()))
}

fn os_error(path: &Path, step: &'static str, source: Errno) -> TakeoverError {
    TakeoverError::Os { path: path.to_owned(), step, source: source.into() }
}
