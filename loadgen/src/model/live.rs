//! A run so far, as progress shows it.

/// What is known while a run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Attempts begun, without the warm-up.
    pub started: u64,
    /// Attempts that ended well.
    pub completed: u64,
    /// Attempts that ended in any way.
    pub finished: u64,
    /// p50 so far of accept_delay, or of connect where accepts are not seen, nanoseconds.
    pub p50_ns: Option<u64>,
    /// p99 of the same.
    pub p99_ns: Option<u64>,
}

/// What a whole run amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLength {
    /// So much time, warm-up included.
    Milliseconds(u64),
    /// So many attempts, without the warm-up.
    Connections(u64),
}
