//! The state of a run that the progress line shows.

/// Counts and percentiles of the run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Attempts that began, without the warm-up.
    pub started: u64,
    /// Attempts that completed.
    pub completed: u64,
    /// Attempts with any outcome.
    pub finished: u64,
    /// p50 so far of accept_delay, or of connect if accepts are not observed, nanoseconds.
    pub p50_ns: Option<u64>,
    /// p99 of the same.
    pub p99_ns: Option<u64>,
}

/// The length of a whole run, for the share that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLength {
    /// By time, warm-up included.
    Milliseconds(u64),
    /// By number of attempts, without the warm-up.
    Connections(u64),
}
