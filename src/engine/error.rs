//! What an engine can fail with.

use rustix::io::Errno;

use crate::ring::RingError;

/// Why a worker could not start or had to give up. No action of a peer causes one of these.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The ring could not be set up or failed for good.
    #[error("{error}{}", alternative(error))]
    Ring {
        /// Why.
        error: RingError,
    },
    /// The worker could not be pinned to its CPU.
    #[error("pinning to CPU {cpu}: {source}; is it in this process's cpuset (taskset -p, --cpus)?")]
    Pin {
        /// Which CPU.
        cpu: usize,
        /// What the system said.
        source: Errno,
    },
    /// A listener became unusable.
    #[error("accept: {0}: the listening socket is unusable")]
    Listener(Errno),
    /// The clocks of this system could not be identified for the stamp.
    #[error("identifying the clock domain for --stamp: {0}")]
    ClockDomain(std::io::Error),
    /// The system refused a call that the engine needs.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: Errno,
    },
}

/// A setting that the chosen engine does not support: reported before anything is opened.
#[derive(Debug, thiserror::Error)]
#[error("--engine {engine}: {reason}")]
pub struct Unsupported {
    /// Which engine.
    pub engine: &'static str,
    /// What it does not support, and what to use instead.
    pub reason: String,
}

impl From<RingError> for EngineError {
    fn from(error: RingError) -> Self {
        Self::Ring { error }
    }
}

/// What runs where there is no ring.
fn alternative(error: &RingError) -> &'static str {
    match error.unavailable() {
        Some(_) => {
            "\n  or: --engine epoll, which --engine auto takes where io_uring is not available"
        }
        None => "",
    }
}
