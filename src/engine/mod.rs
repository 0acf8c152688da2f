//! Engines: what carries events to an [echo](crate::echo) shard and its actions to the kernel.
//!
//! An engine is chosen once, per worker thread; nothing is dispatched dynamically per operation.

mod accepted;
mod busy_poll;
mod epoll;
mod stamper;
#[cfg(feature = "tokio-uring")]
mod tokio_uring;
mod uring;
mod worker;

pub(crate) use self::accepted::PEER_LOG;

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::config::Config;
use crate::echo::Stats;
use crate::limits::Limits;
use crate::metrics::Published;
use crate::ring::RingError;
use crate::shutdown::{Control, Phase};
use crate::stamp::Engine;

/// Why a worker could not start or had to give up. No action of a peer causes one of these.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The ring could not be set up or failed for good.
    #[error(transparent)]
    Ring(#[from] RingError),
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

/// Replaces settings that `config` leaves to the engine by those that it supports. Returns one line
/// for the log for each feature that the engine lacks.
///
/// # Errors
/// [`Unsupported`] if a setting was asked for explicitly and the engine does not support it.
pub(crate) fn adapt(config: &Config) -> Result<(Config, Vec<String>), Unsupported> {
    match config.engine {
        Engine::Uring | Engine::Epoll => Ok((config.clone(), Vec::new())),
        #[cfg(feature = "tokio-uring")]
        Engine::TokioUring => tokio_uring::adapt(config),
        #[cfg(not(feature = "tokio-uring"))]
        Engine::TokioUring => {
            let reason = "this build is without it; build with --features tokio-uring".to_owned();
            Err(Unsupported { engine: config.engine.name(), reason })
        }
    }
}

/// Everything that one worker needs to start.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) index: usize,
    pub(crate) listeners: Vec<Arc<OwnedFd>>,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) control: Arc<Control>,
    pub(crate) published: Arc<Published>,
}

/// Runs a worker on the calling thread until it is told to stop; reports on `ready` once it
/// accepts, with the features it lacks.
pub(crate) fn run(
    context: WorkerContext,
    ready: &mpsc::Sender<Vec<String>>,
) -> Result<Stats, EngineError> {
    let _stop_others = StopOthersOnExit(Arc::clone(&context.control));
    pin(&context)?;
    match context.config.engine {
        Engine::Uring => worker::run::<uring::Uring>(context, ready),
        Engine::Epoll => worker::run::<epoll::Epoll>(context, ready),
        #[cfg(feature = "tokio-uring")]
        Engine::TokioUring => tokio_uring::run(context, ready),
        #[cfg(not(feature = "tokio-uring"))]
        Engine::TokioUring => unreachable!("refused by `adapt`"),
    }
}

/// Stops the other workers when one ends although the server is serving, whatever the reason:
/// connections hashed to its queue would wait for ever.
struct StopOthersOnExit(Arc<Control>);

impl Drop for StopOthersOnExit {
    fn drop(&mut self) {
        if self.0.phase() == Phase::Serving || std::thread::panicking() {
            self.0.advance(Phase::Stopping);
        }
    }
}

fn pin(context: &WorkerContext) -> Result<(), EngineError> {
    let Some(cpus) = context.config.cpus.as_ref().filter(|cpus| !cpus.is_empty()) else {
        return Ok(());
    };
    let cpu = cpus[context.index % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|source| EngineError::Pin { cpu, source })
}
