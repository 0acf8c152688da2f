//! The generator: threads that open connections as planned and follow each to its outcome.
//!
//! Each thread owns a transport, its share of the schedule, a connection table and a recorder;
//! nothing is shared but the request to stop. [`GeneratorThreads`] starts them at one common
//! instant and delivers what they record, second by second.

pub mod aggregation;
pub mod attempt_recorder;
pub mod connection;
mod errnos;
mod event_loop;
mod exchange;
pub mod holding;
mod open_connections;
pub mod recorder;
mod sockets;
mod summary;
mod table;
mod threads;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use uring_echo::ring::RingError;
use uring_echo::stamp::ClockDomain;

pub use self::sockets::PREPARED_MAX;
pub use self::threads::{BorrowedRecording, Delivery, GeneratorThreads};
pub use self::transport::TransportKind;

use self::connection::Method;
use crate::observe::OffsetBounds;
use crate::plan::config::{RunConfig, Shape};

/// What the generator threads are to do, resolved.
#[derive(Debug, Clone)]
pub struct GeneratorPlan {
    /// What was asked for.
    pub config: RunConfig,
    /// The server.
    pub target: SocketAddr,
    /// How accepts are observed.
    pub method: Method,
    /// Echo round trips per connection.
    pub messages: u32,
    /// Whose monotonic clock a stamp has to be of.
    pub clock_domain: ClockDomain,
    /// Where that clock lies beside this thread's, if it is another one.
    pub clock_offset: Option<OffsetBounds>,
    /// CPUs for the threads, in turn; empty leaves the choice to the scheduler.
    pub cpus: Vec<usize>,
    /// Whether a thread that has nothing to do must let others run, and soon sleep, because the
    /// server or another thread may want its CPU.
    pub yields: bool,
}

impl GeneratorPlan {
    /// Generator threads: not more than there may be connections.
    #[must_use]
    pub fn threads(&self) -> u16 {
        let open = match self.config.own_shape() {
            Shape::Closed { concurrency } => concurrency.get().min(self.config.max_in_flight),
            Shape::Rate { .. } | Shape::Burst { .. } => self.config.max_in_flight,
        };
        let most = u16::try_from(open).unwrap_or(u16::MAX);
        self.config.threads.min(most).max(1)
    }
}

/// Why the generator had to give up.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// io_uring is not to be had, or failed.
    #[error("{error}{}", instead(error))]
    Ring {
        /// Why.
        error: RingError,
    },
    /// The epoll transport was refused a call that it needs.
    #[error("{step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Client sockets cannot be made at all.
    #[error("making a client socket; is every --source still an address of this machine?")]
    Socket(#[source] io::Error),
    /// The kernel's socket table cannot be asked.
    #[error("observing accepts by sock_diag")]
    Diag(#[source] io::Error),
    /// A thread could not be started or moved to its CPU.
    #[error("starting generator thread {thread}")]
    Thread {
        /// Its number.
        thread: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The instant of `--start-at` came before the generator was ready.
    #[error(
        "--start-at: the generator was ready {} too late; name a later instant, the same for all \
         shards",
        humantime::format_duration(Duration::from_millis(*late_ms))
    )]
    LateStart {
        /// By how much, milliseconds, rounded up.
        late_ms: u64,
    },
    /// A thread panicked: a defect in this program.
    #[error("generator thread {thread} panicked")]
    Panicked {
        /// Its number.
        thread: u16,
    },
}

impl From<RingError> for GenerateError {
    fn from(error: RingError) -> Self {
        Self::Ring { error }
    }
}

/// What runs where there is no ring.
fn instead(error: &RingError) -> &'static str {
    match error.unavailable() {
        Some(_) => "\n  or: --transport epoll, which measures the same without io_uring",
        None => "",
    }
}
