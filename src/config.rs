//! The resolved configuration: what the server runs with. Nothing reads flags or the environment
//! after this has been made.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::stamp::{AcceptMode, Engine};

/// Everything [`Server::start`](crate::Server::start) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on, at least one; port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, each with a ring of its own.
    pub workers: NonZeroUsize,
    /// CPUs the workers are pinned to, in turn; `None` leaves them to the scheduler.
    pub cpus: Option<Vec<usize>>,
    /// What drives a worker.
    pub engine: Engine,
    /// Let epoll drive the workers where io_uring is not available (`--engine auto`).
    pub fall_back_to_epoll: bool,
    /// How workers share an address.
    pub accept: AcceptMode,
    /// Which worker's queue a connection is put into, where each has its own.
    pub steer: Steer,
    /// Given to listen(2) unchanged; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// Whether a worker spins before it sleeps.
    pub busy_poll: BusyPoll,
    /// Have the kernel poll the network card for so many microseconds before a worker sleeps
    /// (Linux 6.9).
    pub napi: Option<NonZeroU32>,
    /// Send a stamp frame first on every connection.
    pub stamp: bool,
    /// Fault injection: workers sleep on purpose.
    pub stall: Option<Stall>,
    /// Receive buffers of one worker, in bytes altogether.
    pub pool: NonZeroU32,
    /// One receive buffer, in bytes: 4 to 64 KiB.
    pub buffer_size: NonZeroU32,
    /// Bytes of pool that one connection may hold.
    pub credit: NonZeroU32,
    /// Open connections, all workers together; `None`: as many as descriptors allow.
    pub max_connections: Option<NonZeroU32>,
    /// Open connections of one peer address, per worker.
    pub max_per_ip: Option<NonZeroU32>,
    /// Bits of an IPv6 address that make a peer for `max_per_ip`, 1 to 128: whoever has one such
    /// address has the whole network.
    pub ipv6_prefix: u8,
    /// Close a connection without traffic after this long.
    pub idle_timeout: Option<Duration>,
    /// Close a connection whose peer takes less than `min_drain` within this time, while bytes are
    /// owed to it.
    pub write_timeout: Option<Duration>,
    /// The fewest bytes that a peer takes within the write timeout.
    pub min_drain: NonZeroU32,
    /// Keep accepting for this long after the first stop signal.
    pub drain_delay: Duration,
    /// Then wait this long for connections to end.
    pub drain_timeout: Duration,
    /// A Unix socket by which listening sockets go from one process to the next.
    pub takeover: Option<PathBuf>,
    /// Where metrics and probes are answered over HTTP.
    pub admin: Option<SocketAddr>,
    /// Give up what a serving process does not need. Only for a process of its own: the
    /// restrictions apply to every thread and cannot be lifted.
    pub sandbox: SandboxMode,
    /// Log every connection's peer (at debug level).
    pub log_peers: bool,
}

impl Config {
    /// Whether the server cannot run without io_uring.
    #[must_use]
    pub fn needs_uring(&self) -> bool {
        self.engine != Engine::Epoll && !self.fall_back_to_epoll
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 7777))],
            workers: allowed_cpus(),
            cpus: None,
            engine: Engine::Uring,
            fall_back_to_epoll: false,
            accept: AcceptMode::Reuseport,
            steer: Steer::Off,
            backlog: 4096,
            busy_poll: BusyPoll::Auto,
            napi: None,
            stamp: false,
            stall: None,
            pool: NonZeroU32::new(16 << 20).expect("16 MiB"),
            buffer_size: NonZeroU32::new(16 << 10).expect("16 KiB"),
            credit: NonZeroU32::new(256 << 10).expect("256 KiB"),
            max_connections: None,
            max_per_ip: None,
            ipv6_prefix: 64,
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            min_drain: NonZeroU32::new(4 << 10).expect("4 KiB"),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            takeover: None,
            admin: None,
            sandbox: SandboxMode::Off,
            log_peers: false,
        }
    }
}

/// How many CPUs this process may run on.
fn allowed_cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// By what the kernel chooses one of several queues for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// A hash of its addresses and ports.
    Off,
    /// The CPU that handles its SYN: the listener of the worker on that CPU is preferred
    /// (SO_INCOMING_CPU, Linux 6.2).
    IncomingCpu,
    /// The same by a filter that the listeners share (SO_ATTACH_REUSEPORT_CBPF).
    Cbpf,
}

impl Steer {
    /// `off`, `incoming-cpu` or `cbpf`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::IncomingCpu => "incoming-cpu",
            Self::Cbpf => "cbpf",
        }
    }
}

/// Whether a worker spins before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyPoll {
    /// In proportion to its work, where spinning was fruitful, and never at the cost of others.
    Auto,
    /// Never.
    Off,
    /// Without end: for workers that have a core each.
    Always,
    /// Before each sleep, for this long.
    For(Duration),
}

impl fmt::Display for BusyPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Always => f.write_str("always"),
            Self::For(time) => write!(f, "{}", time.as_micros()),
        }
    }
}

/// Whether the process restricts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// As far as this kernel allows; what is missing is logged.
    Auto,
    /// Not at all.
    Off,
    /// Completely, or the server does not start.
    Require,
}

impl SandboxMode {
    /// As `--sandbox` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Require => "require",
        }
    }
}

/// A deliberate stall: every `every`, the worker does nothing at all for `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How long.
    pub length: Duration,
    /// How often, counted from the start; the first one comes after half of it.
    pub every: Duration,
}
