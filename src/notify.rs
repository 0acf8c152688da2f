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
    /// `None` if no manager waits to be told.
    pub(crate) fn of_this_process() -> Result<Option<Self>, NotifyError> {
        let Some(address) = env::var_os(NOTIFY_SOCKET).filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let socket = connect(&address).map_err(|source| {
            let address = address.to_string_lossy().into_owned();
            NotifyError { address, source }
        })?;
        Ok(Some(Self { socket, watchdog: sd_notify::watchdog_enabled() }))
    }

    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// It serves, after its start or a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
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

    /// Nobody waits for a manager that does not read.
    fn tell(&self, states: &[NotifyState<'_>]) {
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
