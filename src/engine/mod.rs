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

/// Why a worker could not start or had to give up. Nothing a peer does ends up here.
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
    /// A listener turned out to be unusable.
    #[error("accept: {0}: the listening socket is unusable")]
    Listener(Errno),
    /// The clocks of this system could not be identified for the stamp.
    #[error("identifying the clock domain for --stamp: {0}")]
    ClockDomain(std::io::Error),
    /// The system refused what the engine is made of.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: Errno,
    },
}

/// Something asked of an engine that it cannot do: said before anything is opened.
#[derive(Debug, thiserror::Error)]
#[error("--engine {engine}: {reason}")]
pub struct Unfit {
    /// Which engine.
    pub engine: &'static str,
    /// What it cannot do, and what to do instead.
    pub reason: String,
}

/// Settles what `config` leaves to the engine. With it come the things the engine does without,
/// a line each, for the log.
///
/// # Errors
/// [`Unfit`] if something was asked for by name that the engine cannot do.
pub(crate) fn fit(config: &Config) -> Result<(Config, Vec<String>), Unfit> {
    match config.engine {
        Engine::Uring | Engine::Epoll => Ok((config.clone(), Vec::new())),
        #[cfg(feature = "tokio-uring")]
        Engine::TokioUring => tokio_uring::fit(config),
        #[cfg(not(feature = "tokio-uring"))]
        Engine::TokioUring => {
            let reason = "this build is without it; build with --features tokio-uring".to_owned();
            Err(Unfit { engine: config.engine.name(), reason })
        }
    }
}

/// Everything one worker starts with.
#[derive(Debug)]
pub(crate) struct WorkerPlan {
    pub(crate) index: usize,
    pub(crate) listeners: Vec<Arc<OwnedFd>>,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) control: Arc<Control>,
    pub(crate) published: Arc<Published>,
}

/// Runs a worker on the calling thread until it is told to stop; reports on `ready` once it
/// accepts, with what it had to do without.
pub(crate) fn run(
    plan: WorkerPlan,
    ready: &mpsc::Sender<Vec<String>>,
) -> Result<Stats, EngineError> {
    let _all_or_none = AllOrNone(Arc::clone(&plan.control));
    pin(&plan)?;
    match plan.config.engine {
        Engine::Uring => worker::run::<uring::Uring>(plan, ready),
        Engine::Epoll => worker::run::<epoll::Epoll>(plan, ready),
        #[cfg(feature = "tokio-uring")]
        Engine::TokioUring => tokio_uring::run(plan, ready),
        #[cfg(not(feature = "tokio-uring"))]
        Engine::TokioUring => unreachable!("refused by fit"),
    }
}

/// Stops the others when a worker ends before its time, however it ends: connections hashed to its
/// queue would wait for ever. A worker that was told to end has nothing to tell.
struct AllOrNone(Arc<Control>);

impl Drop for AllOrNone {
    fn drop(&mut self) {
        if self.0.phase() == Phase::Serving || std::thread::panicking() {
            self.0.advance(Phase::Stopping);
        }
    }
}

fn pin(plan: &WorkerPlan) -> Result<(), EngineError> {
    let Some(cpus) = plan.config.cpus.as_ref().filter(|cpus| !cpus.is_empty()) else {
        return Ok(());
    };
    let cpu = cpus[plan.index % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|source| EngineError::Pin { cpu, source })
}
