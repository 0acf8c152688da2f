//! What a server can fail with.

use std::io;

use super::steering::SteerError;
use crate::engine::limits::LimitError;
use crate::engine::{EngineError, Unsupported};
use crate::http::HttpError;
use crate::listen::{AdoptError, ListenError};
use crate::sandbox::SandboxError;
use crate::sys::threads::ThreadError;
use crate::takeover::TakeoverError;

/// Why a server did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The numbers of the configuration contradict each other or exceed what the system allows.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// io_uring is not available.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A restriction that was required is not available.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// An address could not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Listening sockets that were inherited are not those asked for.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// Connections cannot be steered as asked.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// Whoever serves could not be taken over from.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The admin endpoint could not be started.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The system refused a thread.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The system refused an eventfd.
    #[error("{step}: {source}")]
    Os {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The engine does not support a setting.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A worker could not start or had to give up.
    #[error("worker {index}: {source}")]
    Worker {
        /// Which one.
        index: usize,
        /// Why.
        source: EngineError,
    },
    /// A worker panicked: a defect in this program.
    #[error("worker {index} panicked")]
    Panicked {
        /// Which one.
        index: usize,
    },
}
