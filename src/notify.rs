//! What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive.
//!
//! The crate `sd-notify` has the messages. The socket is opened here, once and before the sandbox
//! takes away what that needs; the crate opens one for each message.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use crate::clock::monotonic_ns;

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The service manager that started this process.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// It restarts a process that does not say for so long that it is alive.
    watchdog: Option<Duration>,
    /// It started another process, which started this one.
    is_told_whom: bool,
    /// Another process serves now, and is the one to speak.
    has_left: AtomicBool,
}

/// The manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
#[error(
    "NOTIFY_SOCKET={address}: {source}; a unit needs AF_UNIX among its RestrictAddressFamilies="
)]
pub(crate) struct NotifyError {
    address: String,
    source: io::Error,
}

impl Manager {
    /// `None` if no manager waits to be told. One that did not start this process itself is told
    /// which one it is.
    pub(crate) fn of_this_process(is_told_whom: bool) -> Result<Option<Self>, NotifyError> {
        let Some(address) = env::var_os(NOTIFY_SOCKET).filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let socket = connect(&address).map_err(|source| {
            let address = address.to_string_lossy().into_owned();
            NotifyError { address, source }
        })?;
        let watchdog = sd_notify::watchdog_enabled();
        Ok(Some(Self { socket, watchdog, is_told_whom, has_left: AtomicBool::new(false) }))
    }

    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// It serves, after its start or a reload.
    pub(crate) fn ready(&self, status: &str) {
        let whom = self.is_told_whom.then(|| NotifyState::MainPid(std::process::id()));
        let ready = [NotifyState::Ready, NotifyState::Status(status)];
        self.tell(&whom.into_iter().chain(ready).collect::<Vec<_>>());
    }

    /// It has begun a reload, which ends with [`Self::ready`].
    pub(crate) fn reloading(&self) {
        let now = NotifyState::MonotonicUsec(i128::from(monotonic_ns() / 1000));
        self.tell(&[NotifyState::Reloading, now]);
    }

    pub(crate) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    }

    /// A sign of life.
    pub(crate) fn alive(&self, status: &str) {
        self.tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// A successor serves: what becomes of this process is not what becomes of the service.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    /// Nobody waits for a manager that does not read.
    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.has_left.load(Ordering::Relaxed) {
            return;
        }
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = self.socket.send(text.as_bytes()) {
            debug!(%error, text, "the service manager was not told");
        }
    }
}

/// A path, or the name of an abstract socket behind an `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
