//! The resolved, immutable configuration of a run; no later code reads command-line arguments.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::model::live::RunLength;
use crate::model::load::{Arrivals, Close, Load, Observe, TransportChoice};
use crate::plan::schedule::PlanShare;
use crate::sys::time::{nanos, unix_ns};

/// The configuration of a run, complete before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// The server's address; `None` starts the embedded server.
    pub target: Option<SocketAddr>,
    /// When connections are wanted.
    pub shape: Shape,
    /// When the measurement ends.
    pub stop: Stop,
    /// This process's share of the plan that shape and stop describe.
    pub shard: PlanShare,
    /// When the first arrival is due; `None`: as soon as everything is ready.
    pub start_at: Option<SystemTime>,
    /// Length of the load before the measurement; attempts intended earlier are counted but not
    /// measured.
    pub warmup: Duration,
    /// Echo round trips per connection; `None`: see [`RunConfig::messages_for`].
    pub messages: Option<u32>,
    /// Whether each connection begins with a message of which no echo is expected.
    pub send_first: bool,
    /// Bytes per message, at least 1.
    pub size: u32,
    /// How the client ends a connection.
    pub close: Close,
    /// Networks of client addresses; if empty, the kernel chooses the address.
    pub sources: Vec<IpNet>,
    /// Generator threads, at least 1.
    pub threads: u16,
    /// CPUs of the generator; `None` leaves the choice to the caller that starts the threads.
    pub cpus: Option<Vec<usize>>,
    /// The most connections open at once over all threads, at least 1.
    pub max_in_flight: u32,
    /// How long a connection may wait for the server before it is given the timeout's outcome.
    pub timeout: Duration,
    /// Seed of the random numbers.
    pub seed: u64,
    /// How the instant of an accept is determined.
    pub observe: Observe,
    /// What carries the connections.
    pub transport: TransportChoice,
    /// Arguments for the embedded server; empty if there is a `target`.
    pub server_args: Vec<String>,
}

/// When connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Open loop: arrivals do not wait for the server.
    Rate {
        /// Connections per second over all threads.
        per_second: f64,
        /// Spacing of the arrivals.
        arrivals: Arrivals,
    },
    /// `count` connections at one instant.
    Burst {
        /// Connections per burst over all threads, at least 1.
        count: NonZeroU32,
        /// Interval between bursts; `None` is a single burst.
        every: Option<Duration>,
    },
    /// Closed loop: a connection that ended is replaced.
    Closed {
        /// Connections kept open over all threads, at least 1.
        concurrency: NonZeroU32,
    },
}

/// When the measurement ends. The warm-up comes before it and is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No arrival is scheduled at or after `warmup` plus this.
    After(Duration),
    /// Exactly this many measured attempts over all threads.
    Connections(u64),
}

impl RunConfig {
    /// Round trips per connection: as given, else one if the server is known to echo, else none.
    pub fn messages_for(&self, server_stamps: bool) -> u32 {
        let known_to_echo = server_stamps || self.target.is_none();
        self.messages.unwrap_or_else(|| known_to_echo.into())
    }

    /// What this process does of the shape. Of a burst, the most that its share can have.
    pub fn own_shape(&self) -> Shape {
        let own = |count: NonZeroU32, total: u64| {
            let own = u32::try_from(self.shard.of_total(total)).ok().and_then(NonZeroU32::new);
            own.unwrap_or(count)
        };
        match self.shape {
            Shape::Rate { per_second, arrivals } => {
                Shape::Rate { per_second: per_second / f64::from(self.shard.of), arrivals }
            }
            Shape::Burst { count, every: None } => {
                Shape::Burst { count: own(count, count.get().into()), every: None }
            }
            Shape::Burst { count, every } => {
                let most = count.get().div_ceil(self.shard.of);
                Shape::Burst { count: NonZeroU32::new(most).unwrap_or(count), every }
            }
            Shape::Closed { concurrency } => {
                Shape::Closed { concurrency: own(concurrency, concurrency.get().into()) }
            }
        }
    }

    /// The length of the whole run, in the unit that ends it.
    pub fn length(&self) -> RunLength {
        match self.stop {
            Stop::After(duration) => {
                RunLength::Milliseconds(nanos(self.warmup + duration) / 1_000_000)
            }
            Stop::Connections(n) => RunLength::Connections(self.shard.of_total(n)),
        }
    }

    /// The load for the result file, a shard's own part of it; `messages` is the value of
    /// [`Self::messages_for`].
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
            send_first: self.send_first,
            size_bytes: self.size,
            close: self.close,
            sources: self.sources.iter().map(ToString::to_string).collect(),
            max_in_flight: self.max_in_flight,
            timeout_ns: nanos(self.timeout),
            seed: self.seed,
            start_at: self.start_at.map(unix_ns),
        };
        match self.own_shape() {
            Shape::Rate { per_second, arrivals } => {
                (load.rate, load.arrivals) = (Some(per_second), Some(arrivals));
            }
            Shape::Burst { every, .. } => {
                let own = self.shard.of_total(self.shape.at_once().into());
                load.burst = Some(u32::try_from(own).unwrap_or(u32::MAX));
                load.every_ns = every.map(nanos);
            }
            Shape::Closed { concurrency } => load.concurrency = Some(concurrency.get()),
        }
        match self.stop {
            Stop::After(duration) => load.duration_ns = Some(nanos(duration)),
            Stop::Connections(n) => load.connections = Some(self.shard.of_total(n)),
        }
        load
    }
}

impl Shape {
    /// The name in the result file: `rate`, `burst` or `closed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Burst { .. } => "burst",
            Self::Closed { .. } => "closed",
        }
    }

    /// Connections that the shape opens at one instant, however fast the server is.
    pub fn at_once(&self) -> u32 {
        match self {
            Self::Rate { .. } => 1,
            Self::Burst { count, .. } => count.get(),
            Self::Closed { concurrency } => concurrency.get(),
        }
    }
}
