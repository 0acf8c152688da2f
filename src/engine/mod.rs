//! Engines: what carries events to an [echo](crate::echo) shard and its actions to the kernel.
//!
//! An engine is chosen once, per worker thread; nothing is dispatched dynamically per operation.

mod accepted;
pub mod busy_poll;
mod context;
mod cut_off;
mod epoll;
mod error;
mod fullness;
pub mod limits;
mod loop_stats;
mod stamper;
#[cfg(feature = "tokio-uring")]
mod tokio_uring;
mod trial;
mod uring;
mod worker;

use std::sync::{Arc, mpsc};

use rustix::thread::{CpuSet, sched_setaffinity};
use tracing::warn;

pub(crate) use self::accepted::PEER_LOG;
pub(crate) use self::context::{WorkerContext, WorkerCounters};
pub use self::error::{EngineError, Unsupported};
pub use self::loop_stats::LoopStats;
pub use self::trial::{Trial, try_rings};
use crate::config::Config;
pub use crate::echo::Stats;
use crate::shutdown::{Control, Phase};
use crate::stamp::Engine;

/// Replaces settings that `config` leaves to the engine, or to this machine, by those that are
/// supported. Returns one line for the log for each feature that is missing.
///
/// # Errors
/// [`Unsupported`] if a setting was asked for explicitly and the engine does not support it.
pub(crate) fn adapt(config: &Config, nofile: u32) -> Result<(Config, Vec<String>), Unsupported> {
    match config.engine {
        Engine::Uring if config.fall_back_to_epoll => uring_or_epoll(config, nofile),
        Engine::Uring => Ok(as_many_workers_as_rings(config, nofile)),
        Engine::Epoll => without_ring(config, Vec::new()),
        #[cfg(feature = "tokio-uring")]
        Engine::TokioUring => tokio_uring::adapt(config),
        #[cfg(not(feature = "tokio-uring"))]
        Engine::TokioUring => {
            let reason = "this build is without it; build with --features tokio-uring".to_owned();
            Err(Unsupported { engine: config.engine.name(), reason })
        }
    }
}

/// An accept of tokio-uring in flight cannot be taken back: it would take a connection from the
/// successor, and ending it by shutting the socket down ends the socket for everybody.
const NO_TAKEOVER: &str = "--takeover and LISTEN_FDS: an accept in flight cannot be taken back, \
    so listening sockets cannot be shared with another process; use --engine uring or epoll";

/// Refuses inherited listening sockets where the engine cannot leave them whole.
pub(crate) fn check_inherited(config: &Config, inherited: bool) -> Result<(), Unsupported> {
    if !inherited || config.engine != Engine::TokioUring {
        return Ok(());
    }
    Err(Unsupported { engine: config.engine.name(), reason: NO_TAKEOVER.to_owned() })
}

/// An error that does not rule io_uring out is left to the workers.
fn uring_or_epoll(config: &Config, nofile: u32) -> Result<(Config, Vec<String>), Unsupported> {
    let refused = try_rings(config, nofile).refused;
    let Some(reason) = refused.and_then(|error| error.unavailable()) else {
        return Ok((config.clone(), Vec::new()));
    };
    warn!("engine epoll: {reason}");
    without_ring(&Config { engine: Engine::Epoll, ..config.clone() }, vec![reason])
}

/// Refuses what only a ring does.
fn without_ring(
    config: &Config,
    degraded: Vec<String>,
) -> Result<(Config, Vec<String>), Unsupported> {
    if config.napi.is_none() {
        return Ok((config.clone(), degraded));
    }
    let why = degraded.iter().map(|reason| format!(" ({reason})")).collect::<String>();
    let reason = format!("--napi is a ring's, and there is none{why}: leave it out");
    Err(Unsupported { engine: config.engine.name(), reason })
}

/// Where locked memory suffices for some workers, those serve. Tried again with fewer, because
/// their rings may be larger. Any other error is left to the workers.
fn as_many_workers_as_rings(config: &Config, nofile: u32) -> (Config, Vec<String>) {
    let (mut config, wanted) = (config.clone(), config.workers);
    let mut fewer = None;
    while let Some((workers, reason)) = try_rings(&config, nofile).fewer_workers() {
        fewer = Some(format!("{workers} of {wanted} workers: {reason}"));
        config.workers = workers;
    }
    fewer.iter().for_each(|line| warn!("{line}"));
    (config, fewer.into_iter().collect())
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
