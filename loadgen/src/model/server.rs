//! The server that a run measured.

use serde::{Deserialize, Serialize};

use super::load::Observe;

/// A process on the generator's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id, as the generator sees it.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`, at most 15 characters).
    pub name: String,
}

/// The address that a run measured, and how its accepts were observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Address and port.
    pub addr: String,
    /// The server's clock domain in hexadecimal, if it sends stamps.
    pub clock_domain: Option<String>,
    /// How accepts were observed; never `auto`.
    pub observe: Observe,
    /// Resolution of the observed accepts; absent where the instant is exact or not observed.
    pub resolution: Option<Resolution>,
    /// Where the clock of the stamps lies beside the generator's, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<ClockOffset>,
}

/// The clock of a server on another machine, as the connections of the run bound it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Server minus generator at the end of the run.
    pub offset_ns: i64,
    /// 99 of 100 accepts are known to this much more or less.
    pub bound_ns: u64,
    /// How fast the server's clock is, where the run was long enough to tell.
    pub drift: Option<Drift>,
}

/// By how much a clock gains on another one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Microseconds in a second.
    pub ppm: f64,
    /// Its largest error.
    pub bound_ppm: f64,
}

/// Width of the brackets in which accepts were observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
}

/// The server's description: from its ready line all fields, from a stamp engine and accept mode.
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
    /// Features that the server runs without.
    pub degraded: Vec<String>,
    /// The processes that listen on the address, where they are visible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// The server's arguments.
    #[serde(default)]
    pub argv: Vec<String>,
}
