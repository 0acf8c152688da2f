//! What a watch reads of the kernel at each sample.

use std::io;
use std::net::SocketAddr;

use uring_echo::clock::monotonic_ns;

use super::WatchError;
use crate::observe::{Listener, ListenerLooks, Looks, PassiveOpens, ProcListeners};

/// The listeners of one address and the count of connections of their namespace.
pub(super) trait Kernel {
    /// The monotonic clock: setting the time of day does not move it.
    fn now_ns(&self) -> u64;

    /// The listeners as of the last sample.
    fn listeners(&self) -> impl Iterator<Item = &Listener>;

    /// Samples their queues.
    fn sample(&mut self) -> io::Result<Looks>;

    /// Whether they are still all that there are.
    fn unchanged(&mut self) -> io::Result<bool>;

    /// Finds them anew; `NotFound` where nobody listens.
    fn find(&mut self) -> io::Result<()>;

    /// Connections that the namespace took since it was made.
    fn opened(&mut self) -> io::Result<u64>;
}

/// By sock_diag(7) and `/proc/net/snmp`.
pub(super) struct Live {
    looks: ListenerLooks,
    opens: PassiveOpens,
}

impl Live {
    pub(super) fn open(server: SocketAddr) -> Result<Self, WatchError> {
        Ok(Self {
            looks: ListenerLooks::open(server).map_err(WatchError::SocketTable)?,
            opens: PassiveOpens::open().map_err(WatchError::Counters)?,
        })
    }
}

impl Kernel for Live {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.looks.members()
    }

    fn sample(&mut self) -> io::Result<Looks> {
        self.looks.sample()
    }

    fn unchanged(&mut self) -> io::Result<bool> {
        self.looks.unchanged()
    }

    fn find(&mut self) -> io::Result<()> {
        self.looks.find()
    }

    fn opened(&mut self) -> io::Result<u64> {
        self.opens.read()
    }
}

/// By `/proc/PID/net`, where the kernel's sockets cannot be asked for.
impl Kernel for ProcListeners {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.members().iter()
    }

    fn sample(&mut self) -> io::Result<Looks> {
        Self::sample(self)
    }

    /// Each sample lists them.
    fn unchanged(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn find(&mut self) -> io::Result<()> {
        Self::find(self)
    }

    fn opened(&mut self) -> io::Result<u64> {
        Self::opened(self)
    }
}
