//! A running server: listeners first, then a worker per thread, then ready.

mod error;
mod info;
mod opened;
mod steering;

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tracing::{debug, info, warn};

pub use self::error::ServerError;
pub(crate) use self::info::READY_LOG;
pub use self::info::ServerInfo;
use self::opened::{Opened, each_once, named, share_out};
pub use self::steering::SteerError;
use crate::admin::{self, Observed};
use crate::clock::realtime_ns;
use crate::config::{BusyPoll, Config};
use crate::engine::busy_poll::BusyPollStats;
use crate::engine::busy_poll::observer::{QuotaObserver, QuotaReader, SharedLimit};
use crate::engine::limits::{WorkerLimits, memory_warning};
use crate::engine::{self, EngineError, Stats, Unsupported, WorkerContext, WorkerCounters};
use crate::health::{self, Health, Watched};
use crate::http::{Endpoint, Stop};
use crate::metrics::Published;
use crate::notify::Manager;
use crate::sandbox::{Sandbox, Uses};
use crate::shutdown::{Control, Phase};
use crate::stamp::Engine;
use crate::sys::cgroup::{Groups, MEMORY_MAX};
use crate::sys::descriptors;
use crate::sys::threads::{self, ThreadError};
use crate::takeover::{Door, Origin, Predecessor};

/// A server that accepts connections until it is told to stop.
#[derive(Debug)]
pub struct Server {
    info: ServerInfo,
    uses: Uses,
    predecessor: Option<Predecessor>,
    control: Arc<Control>,
    health: Arc<Health>,
    admin: Option<Endpoint>,
    spin_limit: Arc<SharedLimit>,
    /// Ends with the server.
    quota: Option<QuotaObserver>,
    workers: Vec<JoinHandle<Result<Stats, EngineError>>>,
}

/// Reads the busy-poll counters of all workers.
#[derive(Clone, Debug)]
pub struct BusyPollReader(Vec<Arc<Published<BusyPollStats>>>);

impl BusyPollReader {
    /// Counters of all workers, as of a moment ago, and what limits spinning now.
    #[must_use]
    pub fn stats(&self) -> BusyPollStats {
        self.0.iter().map(|worker| worker.read()).sum()
    }
}

impl Server {
    /// Opens the listeners, starts the workers and returns once all of them accept.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        let sandbox = Sandbox::new(config.sandbox);
        let mut server = Self::start_unsealed(config, sandbox, None)?.seal()?;
        server.announce_ready(|| {});
        Ok(server)
    }

    /// Whether a server could be started from this, as far as it can be told without opening
    /// anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(config: &Config) -> Result<(), ServerError> {
        let nofile = raise_descriptor_limit();
        let (config, _) = engine::adapt(config, nofile)?;
        steering::check(&config)?;
        for index in 0..config.workers.get() {
            WorkerLimits::resolve(&config, nofile, index)?;
        }
        Ok(())
    }

    /// As [`Self::start`], but the caller may start threads before it calls [`Self::seal`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_unsealed(
        config: &Config,
        sandbox: Sandbox,
        manager: Option<&Arc<Manager>>,
    ) -> Result<Self, ServerError> {
        let nofile = raise_descriptor_limit();
        let (config, degraded) = adapt_to_machine(config, nofile)?;
        let config = &config;
        steering::check(config)?;
        let limits = |index| WorkerLimits::resolve(config, nofile, index);
        info!(limits = %limits(0)?, "sizes of one worker");
        let mut opened = Opened::open(config)?;
        let workers = config.workers.get();
        let (addrs, shares) = share_out(std::mem::take(&mut opened.listening), workers);
        let limits = (0..workers).map(limits).collect::<Result<Vec<_>, _>>()?;
        let degraded = opened.degraded.take().into_iter().chain(degraded);
        let info = ServerInfo::new(config, &opened, addrs, degraded, sandbox);
        let mut server = Self::new(config, &mut opened, &shares, &limits, info)?;
        let observed = opened.admin.take().map(|listener| {
            server.uses.admin = Some(listener.as_raw_fd());
            (listener, server.observed(config, &shares))
        });
        let quota = (config.busy_poll == BusyPoll::Auto)
            .then(|| QuotaReader::new(workers, Arc::clone(&server.spin_limit)));
        server.info.sandbox.restrict_before_workers()?;
        if let Some(reader) = quota {
            server.observe_quota(reader)?;
        }
        let mut server = server.start_workers(config, &limits, shares)?;
        server.observe_health(manager, observed.is_some())?;
        let admin = observed.map(|(listener, observed)| server.start_admin(listener, observed));
        let admin = admin.transpose()?;
        if let Some(door) = opened.door {
            server.keep(door, admin, manager)?;
        }
        Ok(server)
    }

    /// This server is ready: tells whoever probes, then by `tell` a service manager, and last the
    /// process that served before, if there is one. So the manager knows by then who serves.
    pub(crate) fn announce_ready(&mut self, tell: impl FnOnce()) {
        self.control.announce_ready();
        tell();
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.ready();
        }
    }

    /// Restricts the process to what serving takes, which no new thread does.
    ///
    /// # Errors
    /// [`ServerError::Sandbox`] under `require`.
    pub(crate) fn seal(mut self) -> Result<Self, ServerError> {
        let info = &mut self.info;
        info.sandbox.restrict_when_ready(self.uses)?;
        info.degraded.extend(info.sandbox.missing.clone());
        Ok(self)
    }

    /// With nothing running yet.
    fn new(
        config: &Config,
        opened: &mut Opened,
        shares: &[Vec<Arc<OwnedFd>>],
        limits: &[WorkerLimits],
        info: ServerInfo,
    ) -> Result<Self, ServerError> {
        let control = Control::new(limits.len(), each_once(shares), opened.kept_open);
        let control =
            Arc::new(control.map_err(|source| ServerError::Os { step: "eventfd", source })?);
        let watched = |limits: &WorkerLimits| Watched {
            counters: WorkerCounters::default(),
            max_connections: limits.shard.max_connections,
        };
        let watched = limits.iter().map(watched).collect();
        let health = Health::new(Arc::clone(&control), watched, config.accept);
        Ok(Self {
            info,
            uses: Uses { engine: config.engine, takeover: opened.door.is_some(), admin: None },
            predecessor: opened.predecessor.take(),
            control,
            health: Arc::new(health),
            admin: None,
            spin_limit: Arc::new(SharedLimit::unlimited()),
            quota: None,
            workers: Vec::new(),
        })
    }

    fn start_workers(
        mut self,
        config: &Config,
        limits: &[WorkerLimits],
        shares: Vec<Vec<Arc<OwnedFd>>>,
    ) -> Result<Self, ServerError> {
        let (ready, readiness) = mpsc::channel();
        for (index, listeners) in shares.into_iter().enumerate() {
            let context = WorkerContext {
                index,
                limits: limits[index].with_listeners(listeners.len())?,
                listeners,
                config: config.clone(),
                control: Arc::clone(&self.control),
                counters: self.health.workers()[index].counters.clone(),
                spin_limit: Arc::clone(&self.spin_limit),
            };
            let ready = ready.clone();
            let worker = move || engine::run(context, &ready);
            self.workers.push(threads::spawn(&format!("echo-{index}"), worker)?);
        }
        drop(ready);
        self.await_readiness(&readiness)
    }

    /// What the admin endpoint tells.
    fn observed(&self, config: &Config, shares: &[Vec<Arc<OwnedFd>>]) -> Observed {
        let text = |value: &str| value.to_owned();
        Observed {
            server: vec![
                ("engine", text(self.info.engine)),
                ("accept", text(self.info.accept)),
                ("busy_poll", self.info.busy_poll.clone()),
                ("inherited", text(self.info.inherited.map_or("no", Origin::name))),
            ],
            health: Arc::clone(&self.health),
            listeners: named(shares),
            has_loop: config.engine != Engine::TokioUring,
            groups: admin::open_groups(),
            started_ns: realtime_ns(),
        }
    }

    /// If somebody wants to know whether workers are alive. A manager is told while they are.
    fn observe_health(
        &self,
        manager: Option<&Arc<Manager>>,
        has_admin: bool,
    ) -> Result<(), ThreadError> {
        let Some(manager) = manager.cloned() else {
            return if has_admin { self.health.observe(health::INTERVAL, |_| {}) } else { Ok(()) };
        };
        let watchdog = manager.watchdog().map_or(health::INTERVAL, |limit| limit / 4);
        self.health.observe(watchdog.min(health::INTERVAL), move |health| {
            if health.stuck_worker().is_none() {
                manager.alive(&health.status());
            }
        })
    }

    /// Answers at `listener`, which is returned for a successor.
    fn start_admin(
        &mut self,
        listener: TcpListener,
        observed: Observed,
    ) -> Result<OwnedFd, ServerError> {
        let step = "duplicating the listener of --admin";
        let handed_on = listener.try_clone().map_err(|source| ServerError::Os { step, source })?;
        self.admin = Some(admin::start(listener, observed)?);
        Ok(handed_on.into())
    }

    /// Waits for a successor, with which the admin endpoint goes, and which the manager is told of
    /// by itself.
    fn keep(
        &self,
        door: Door,
        admin: Option<OwnedFd>,
        manager: Option<&Arc<Manager>>,
    ) -> Result<(), ThreadError> {
        let (control, endpoint) = (self.control(), self.admin.as_ref().map(Endpoint::stopper));
        let manager = manager.cloned();
        threads::spawn("door", move || {
            if door.keep(&control, admin.as_ref()) {
                manager.iter().for_each(|manager| manager.leave());
                info!("a successor has taken over: draining");
                endpoint.iter().for_each(Stop::stop);
            }
        })?;
        Ok(())
    }

    fn observe_quota(&mut self, reader: QuotaReader) -> Result<(), ThreadError> {
        let observer = QuotaObserver::start(reader, self.busy_poll().0)?;
        self.info.busy_poll_limited_by = observer.limited_by;
        self.quota = Some(observer);
        Ok(())
    }

    /// Waits until every worker has reported the features it lacks. One that ends before has
    /// failed.
    fn await_readiness(
        mut self,
        readiness: &mpsc::Receiver<Vec<String>>,
    ) -> Result<Self, ServerError> {
        for _ in 0..self.workers.len() {
            let Ok(degraded) = readiness.recv() else {
                self.control.advance(Phase::Stopping);
                self.join()?;
                unreachable!("a worker that did not report ready ends with an error");
            };
            for line in degraded {
                if !self.info.degraded.contains(&line) {
                    warn!("{line}");
                    self.info.degraded.push(line);
                }
            }
        }
        Ok(self)
    }

    /// The properties of this server.
    #[must_use]
    pub const fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// For stopping the server from elsewhere.
    #[must_use]
    pub fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// Counters of all workers, as of a moment ago.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters()()
    }

    /// As [`Self::stats`], for whoever outlives the server.
    pub(crate) fn counters(&self) -> impl Fn() -> Stats + Send + use<> {
        let health = Arc::clone(&self.health);
        move || health.workers().iter().map(|worker| worker.counters.echo.read()).sum()
    }

    /// The state of the server in words, for whoever outlives it.
    pub(crate) fn status(&self) -> impl Fn() -> String + Send + use<> {
        let health = Arc::clone(&self.health);
        move || health.status()
    }

    /// For reading what busy poll does, also after the server has ended.
    #[must_use]
    pub fn busy_poll(&self) -> BusyPollReader {
        let workers = self.health.workers().iter();
        BusyPollReader(workers.map(|worker| Arc::clone(&worker.counters.busy_poll)).collect())
    }

    /// Waits until the server has ended and returns its final counters.
    ///
    /// # Errors
    /// The first worker that had to give up; the others are stopped.
    pub fn wait(mut self) -> Result<Stats, ServerError> {
        self.join()
    }

    fn join(&mut self) -> Result<Stats, ServerError> {
        let mut total = Ok(Stats::default());
        for (index, worker) in self.workers.drain(..).enumerate() {
            let outcome = match worker.join() {
                Ok(Ok(stats)) => Ok(stats),
                Ok(Err(source)) => Err(ServerError::Worker { index, source }),
                Err(_) => Err(ServerError::Panicked { index }),
            };
            total = match (total, outcome) {
                (Ok(sum), Ok(stats)) => Ok(sum + stats),
                (Err(first), _) | (_, Err(first)) => Err(first),
            };
        }
        total
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control.advance(Phase::Stopping);
        if let Err(error) = self.join() {
            warn!(%error, "while stopping");
        }
        self.admin.take().into_iter().for_each(Endpoint::end);
    }
}

/// Raises the limit of descriptors as far as the kernel allows; returns the limit in force.
fn raise_descriptor_limit() -> u32 {
    let raised = descriptors::raise_limit().unwrap_or_else(|error| {
        debug!(%error, "RLIMIT_NOFILE stays as it is");
        descriptors::limit()
    });
    raised.enforced()
}

/// What this machine allows of a configuration, and a line for the log about what it lacks.
fn adapt_to_machine(config: &Config, nofile: u32) -> Result<(Config, Vec<String>), Unsupported> {
    let (config, mut degraded) = engine::adapt(config, nofile)?;
    let memory = Groups::read().tightest(MEMORY_MAX);
    if let Some(warning) = memory_warning(&config, nofile, memory.as_ref()) {
        warn!("{warning}");
        degraded.push(warning);
    }
    Ok((config, degraded))
}
