//! What a run is to do: resolved, immutable; nothing reads arguments afterwards.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::live::RunLength;
use crate::model::load::{Arrivals, Close, Load, Observe, TransportChoice};
use crate::sys::time::nanos;

/// Everything a run needs to know, decided before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// The server; `None` starts the embedded one.
    pub target: Option<SocketAddr>,
    /// When connections are wanted.
    pub shape: Shape,
    /// When the measurement ends.
    pub stop: Stop,
    /// Load before the measurement; attempts intended earlier than this are only counted.
    pub warmup: Duration,
    /// Echo round trips per connection; `None`: see [`RunConfig::messages_for`].
    pub messages: Option<u32>,
    /// Bytes per message, at least 1.
    pub size: u32,
    /// How the client ends a connection.
    pub close: Close,
    /// Client addresses; empty lets the kernel choose.
    pub sources: Vec<IpNet>,
    /// Generator threads, at least 1.
    pub threads: u16,
    /// CPUs of the generator; `None` leaves the choice to whoever starts the threads.
    pub cpus: Option<Vec<usize>>,
    /// Connections open at once over all threads, at least 1.
    pub max_in_flight: u32,
    /// A connection that has not answered for this long has its outcome.
    pub timeout: Duration,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// How the instant of accept is learned.
    pub observe: Observe,
    /// What carries the connections.
    pub transport: TransportChoice,
    /// Arguments for the embedded server; empty with a target.
    pub server_args: Vec<String>,
}

/// When connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Open loop: the plan does not wait for the server.
    Rate {
        /// Connections per second over all threads.
        per_second: f64,
        /// Spacing.
        arrivals: Arrivals,
    },
    /// `count` connections at one instant.
    Burst {
        /// Connections per burst over all threads, at least 1.
        count: NonZeroU32,
        /// Distance of the bursts; `None` is a single burst.
        every: Option<Duration>,
    },
    /// Closed loop: a connection that ended is replaced.
    Closed {
        /// Connections kept going over all threads, at least 1.
        concurrency: NonZeroU32,
    },
}

/// When the measurement ends. The warm-up comes before and does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No arrival is planned at or after `warmup` + this.
    After(Duration),
    /// Exactly this many measured attempts over all threads.
    Connections(u64),
}

impl RunConfig {
    /// Round trips per connection: as typed, else one where the server is known to echo.
    pub fn messages_for(&self, server_stamps: bool) -> u32 {
        let ours = server_stamps || self.target.is_none();
        self.messages.unwrap_or_else(|| ours.into())
    }

    /// What the whole run amounts to.
    pub fn length(&self) -> RunLength {
        match self.stop {
            Stop::After(duration) => {
                RunLength::Milliseconds(nanos(self.warmup + duration) / 1_000_000)
            }
            Stop::Connections(n) => RunLength::Connections(n),
        }
    }

    /// For the result file; `messages` as decided by [`Self::messages_for`].
    pub fn load(&self, messages: u32) -> Load {
        let mut load = Load {
            shape: self.shape.name().into(),
            rate: None,
            arrivals: None,
            burst: None,
            every_ns: None,
            concurrency: None,
            duration_ns: None,
            connections: None,
            warmup_ns: nanos(self.warmup),
            messages,
            size_bytes: self.size,
            close: self.close,
            sources: self.sources.iter().map(ToString::to_string).collect(),
            max_in_flight: self.max_in_flight,
            timeout_ns: nanos(self.timeout),
            seed: self.seed,
        };
        match self.shape {
            Shape::Rate { per_second, arrivals } => {
                (load.rate, load.arrivals) = (Some(per_second), Some(arrivals));
            }
            Shape::Burst { count, every } => {
                (load.burst, load.every_ns) = (Some(count.get()), every.map(nanos));
            }
            Shape::Closed { concurrency } => load.concurrency = Some(concurrency.get()),
        }
        match self.stop {
            Stop::After(duration) => load.duration_ns = Some(nanos(duration)),
            Stop::Connections(n) => load.connections = Some(n),
        }
        load
    }
}

impl Shape {
    /// `rate`, `burst` or `closed`, as in the result file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Burst { .. } => "burst",
            Self::Closed { .. } => "closed",
        }
    }

    /// Connections the shape wants open at one instant even from an infinitely fast server.
    pub fn at_once(&self) -> u32 {
        match self {
            Self::Rate { .. } => 1,
            Self::Burst { count, .. } => count.get(),
            Self::Closed { concurrency } => concurrency.get(),
        }
    }
}
