//! The configured load: the command line's values that the result contains.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The configured load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// `rate`, `burst`, `closed` or `hold`.
    pub shape: String,
    /// Connections per second of an open loop, or of the probes of `hold`.
    pub rate: Option<f64>,
    /// Spacing of the arrivals of an open loop.
    pub arrivals: Option<Arrivals>,
    /// Connections per burst.
    pub burst: Option<u32>,
    /// Interval between bursts.
    pub every_ns: Option<u64>,
    /// Connections kept open in a closed loop.
    pub concurrency: Option<u32>,
    /// Length without the warm-up, if the run ends by time.
    pub duration_ns: Option<u64>,
    /// Number of connections without the warm-up, if the run ends by number.
    pub connections: Option<u64>,
    /// Length of the load before the measurement.
    pub warmup_ns: u64,
    /// Echo round trips per connection.
    pub messages: u32,
    /// Whether each connection began with a message of which no echo was expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub send_first: bool,
    /// Bytes per message.
    pub size_bytes: u32,
    /// How the client closes connections.
    pub close: Close,
    /// Networks of client addresses; if empty, the kernel chooses the address.
    pub sources: Vec<String>,
    /// The most connections open at once.
    pub max_in_flight: u32,
    /// Timeout of a connection.
    pub timeout_ns: u64,
    /// Seed of the random numbers.
    pub seed: u64,
    /// When the first arrival was wanted, nanoseconds since 1970, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<u64>,
}

/// Spacing of open-loop arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Equal gaps
    Constant,
    /// Exponential gaps, as independent callers produce them
    Poisson,
}

/// How the client ends a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Close {
    /// Reset (`SO_LINGER` 0): no TIME_WAIT, the port is free at once
    #[default]
    Rst,
    /// Orderly close: the client side keeps the port in TIME_WAIT
    Fin,
}

/// How the instant of accept is learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observe {
    /// stamp if the server sends one, else diag if it is local, else none
    Auto,
    /// The server's own clock, in the first bytes (uring-echo serve --stamp)
    Stamp,
    /// The kernel's socket table: any server in this network namespace, no privilege
    Diag,
    /// Not at all: connect and echo times only
    #[default]
    None,
}

/// What carries the generator's connections. The result names what did, never `auto`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TransportChoice {
    /// uring if every generator thread can have a ring, else epoll
    #[default]
    Auto,
    /// io_uring, or an error
    Uring,
    /// Non-blocking sockets and epoll
    Epoll,
}
