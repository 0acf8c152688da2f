//! The state of a run that is shown while it runs.

/// Counts and percentiles of the run so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Attempts that began, without the warm-up.
    pub started: u64,
    /// Attempts that completed.
    pub completed: u64,
    /// Attempts with any outcome.
    pub finished: u64,
    /// Outcomes other than `completed` that occurred, by name.
    pub failed: Vec<(&'static str, u64)>,
    /// Of accept_delay, or of connect if accepts are not observed, over the run so far.
    pub so_far: Percentiles,
    /// The same, of the last second.
    pub last_second: Percentiles,
    /// The accept queue at this moment, if it is visible.
    pub queue: Option<LiveQueue>,
}

/// Percentiles in nanoseconds; `None` without samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Median.
    pub p50_ns: Option<u64>,
    /// 90th percentile.
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// Largest sample.
    pub max_ns: Option<u64>,
}

/// An accept queue at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveQueue {
    /// Connections waiting, in the longest queue.
    pub depth: u32,
    /// The limit of each queue.
    pub limit: u32,
}

/// What stays the same while a run goes on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveHead {
    /// The server's address.
    pub target: String,
    /// What the percentiles are of: `accept_delay`, or `connect` where accepts are not observed.
    pub phase: &'static str,
    /// Connections per second of an open loop.
    pub planned_rate: Option<f64>,
}

/// The length of a whole run, for the share that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLength {
    /// By time, warm-up included.
    Milliseconds(u64),
    /// By number of attempts, without the warm-up.
    Connections(u64),
}
