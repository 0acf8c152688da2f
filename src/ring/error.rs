//! Errors of a ring.

use std::io;

use rustix::io::Errno;

use super::diagnosis::{Diagnosis, Environment};

/// A ring that cannot be set up or has failed for good.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A set-up step was refused.
    #[error("{step} failed: {error}\n{diagnosis}")]
    Setup {
        /// What was tried.
        step: &'static str,
        /// What the system said. Not a source of its own: the message holds it.
        error: io::Error,
        /// The likely cause, and what to do.
        diagnosis: Diagnosis,
    },
    /// The kernel has io_uring but lacks an operation the engine cannot do without.
    #[error("Linux {release} has io_uring but no {what}, which needs Linux {since} or newer")]
    TooOld {
        /// The running kernel.
        release: String,
        /// What is missing.
        what: &'static str,
        /// The first kernel that has it.
        since: &'static str,
    },
    /// The kernel does not poll network cards for a ring.
    #[error(
        "--napi: io_uring_register(NAPI): {error}; it needs Linux 6.9 or newer, built with \
         CONFIG_NET_RX_BUSY_POLL, and this is {release}: leave --napi out"
    )]
    Napi {
        /// What the system said.
        error: io::Error,
        /// The running kernel.
        release: String,
    },
    /// `io_uring_enter` failed in a way that waiting does not mend.
    #[error("io_uring_enter failed: {0}")]
    Enter(io::Error),
    /// The kernel would not take a submission although the queue had just been submitted.
    #[error("the submission queue stayed full after a submission")]
    QueueStuck,
}

impl RingError {
    /// A step of a set-up that the system refused, with what the ring would lock.
    pub(crate) fn setup(step: &'static str, error: io::Error, locked_bytes: u64) -> Self {
        let diagnosis = Diagnosis::of(&error, &Environment::read(), locked_bytes);
        Self::Setup { step, error, diagnosis }
    }

    pub(super) fn napi(error: io::Error) -> Self {
        Self::Napi { error, release: release() }
    }

    /// Cause and remedy if the kernel was short of memory, such as that which a user may lock.
    #[must_use]
    pub fn short_of_memory(&self) -> Option<&Diagnosis> {
        let Self::Setup { error, diagnosis, .. } = self else { return None };
        (Errno::from_io_error(error) == Some(Errno::NOMEM)).then_some(diagnosis)
    }

    /// The reason in a few words if this process cannot have a ring: `io_uring: denied by …`.
    /// `None` if a ring that was there has failed.
    #[must_use]
    pub fn unavailable(&self) -> Option<String> {
        match self {
            Self::Setup { diagnosis, .. } => Some(format!("io_uring: {}", diagnosis.cause)),
            Self::TooOld { release, what, .. } => {
                Some(format!("io_uring: Linux {release} has no {what}"))
            }
            Self::Napi { .. } | Self::Enter(_) | Self::QueueStuck => None,
        }
    }
}

/// Of the running kernel.
pub(super) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
