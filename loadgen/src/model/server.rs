//! Whom a run measured.

use serde::{Deserialize, Serialize};

use super::load::Observe;

/// Whom a run measured, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Address and port.
    pub addr: String,
    /// The server's clock domain in hexadecimal, if it stamps.
    pub clock_domain: Option<String>,
    /// How accepts were seen: never `auto`.
    pub observe: Observe,
    /// How finely accepts were seen; absent where the instant is exact or not known.
    pub resolution: Option<Resolution>,
}

/// Width of the brackets in which accepts were observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Of half of the accepts at most.
    pub p50_ns: u64,
    /// Of all but one in a hundred at most.
    pub p99_ns: u64,
}

/// What is known of the server: from its ready line all of it, from a stamp a little.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `uring`, `epoll` or `tokio-uring`.
    pub engine: Option<String>,
    /// `reuseport` or `shared`.
    pub accept: Option<String>,
    /// Worker threads.
    pub workers: Option<u64>,
    /// min(backlog, somaxconn).
    pub backlog_effective: Option<u64>,
    /// `auto`, `always`, `off` or microseconds.
    pub busy_poll: Option<String>,
    /// What the server had to do without.
    pub degraded: Vec<String>,
    /// What the server was started with.
    #[serde(default)]
    pub argv: Vec<String>,
}
