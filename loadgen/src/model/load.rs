//! What was asked for: the values of the command line that end up in the result.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// `rate`, `burst`, `closed` or `hold`.
    pub shape: String,
    /// Connections per second of an open loop, or of the probes of `hold`.
    pub rate: Option<f64>,
    /// Spacing of an open loop.
    pub arrivals: Option<Arrivals>,
    /// Connections per burst.
    pub burst: Option<u32>,
    /// Distance of bursts.
    pub every_ns: Option<u64>,
    /// Connections kept going in a closed loop.
    pub concurrency: Option<u32>,
    /// Length, without warm-up, if that ended the run.
    pub duration_ns: Option<u64>,
    /// Number of connections, without warm-up, if that ended the run.
    pub connections: Option<u64>,
    /// Load before the measurement.
    pub warmup_ns: u64,
    /// Echo round trips per connection.
    pub messages: u32,
    /// Bytes per message.
    pub size_bytes: u32,
    /// How connections were ended.
    pub close: Close,
    /// Client networks; empty left it to the kernel.
    pub sources: Vec<String>,
    /// Cap on open connections.
    pub max_in_flight: u32,
    /// Given up after this long.
    pub timeout_ns: u64,
    /// Seed of everything drawn.
    pub seed: u64,
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
