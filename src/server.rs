//! A running server: listeners first, then a worker per thread, then ready.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;

use tracing::{debug, info, warn};

use crate::config::{BusyPoll, Config};
use crate::engine::busy_poll::observer::{QuotaObserver, QuotaReader, SharedLimit};
use crate::engine::busy_poll::{BusyPollStats, LimitedBy};
use crate::engine::limits::{LimitError, WorkerLimits, grow_descriptor_table, memory_warning};
use crate::engine::{self, EngineError, Stats, Unsupported, WorkerContext};
use crate::listen::{
    AddressListeners, AdoptError, ListenError, ListenerBuilder, adopt, effective_backlog,
};
use crate::metrics::Published;
use crate::sandbox::{Sandbox, SandboxError, Uses};
use crate::shutdown::{Control, Phase};
use crate::stamp::{AcceptMode, Engine};
use crate::sys::cgroup::{Groups, MEMORY_MAX};
use crate::sys::descriptors;
use crate::sys::threads::{self, ThreadError};
use crate::takeover::{Inheritance, Origin, Predecessor, TakeoverError, inherit};

/// The log target of the line that says where the server listens: at every log level, since
/// whoever starts a server waits for it.
pub(crate) const READY_LOG: &str = "uring_echo::ready";

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
    /// Whoever serves could not be taken over from.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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

/// A server that accepts connections until it is told to stop.
#[derive(Debug)]
pub struct Server {
    info: ServerInfo,
    uses: Uses,
    predecessor: Option<Predecessor>,
    control: Arc<Control>,
    published: Vec<Arc<Published<Stats>>>,
    busy_poll: BusyPollReader,
    spin_limit: Arc<SharedLimit>,
    /// Ends with the server.
    quota: Option<QuotaObserver>,
    workers: Vec<JoinHandle<Result<Stats, EngineError>>>,
}

/// The properties of a running server, for logs and results.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Bound addresses.
    pub addrs: Vec<SocketAddr>,
    /// `uring`, `epoll` or `tokio-uring`.
    pub engine: &'static str,
    /// `reuseport` or `shared`.
    pub accept: &'static str,
    /// Worker threads.
    pub workers: usize,
    /// The backlog asked for.
    pub backlog: i32,
    /// The backlog in force; `None` if somaxconn is not readable.
    pub backlog_effective: Option<u32>,
    /// `auto`, `off`, `always` or microseconds.
    pub busy_poll: String,
    /// Where the listening sockets came from, if not from this process.
    pub inherited: Option<Origin>,
    /// What limited spinning when the server started.
    pub busy_poll_limited_by: LimitedBy,
    /// Features that this kernel lacks, and the consequence of each.
    pub degraded: Vec<String>,
    /// The restrictions of the process.
    pub sandbox: Sandbox,
}

/// Reads the busy-poll counters of all workers.
#[derive(Clone, Debug)]
pub struct BusyPollReader(Vec<Arc<Published<BusyPollStats>>>);

impl BusyPollReader {
    fn new(workers: usize) -> Self {
        Self(std::iter::repeat_with(Arc::default).take(workers).collect())
    }

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
        let mut server = Self::start_unsealed(config, Sandbox::new(config.sandbox))?.seal()?;
        server.release_predecessor();
        Ok(server)
    }

    /// As [`Self::start`], but the caller may start threads before it calls [`Self::seal`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_unsealed(config: &Config, sandbox: Sandbox) -> Result<Self, ServerError> {
        let nofile = raise_descriptor_limit();
        let (config, mut without) = engine::adapt(config, nofile)?;
        let config = &config;
        let memory = Groups::read().tightest(MEMORY_MAX);
        if let Some(warning) = memory_warning(config, nofile, memory.as_ref()) {
            warn!("{warning}");
            without.push(warning);
        }
        let inheritance = inherit(config.takeover.as_deref())?;
        grow_descriptor_table(config);
        let limits = |index| WorkerLimits::resolve(config, nofile, index);
        info!(limits = %limits(0)?, "sizes of one worker");
        let mut builder = match config.engine {
            Engine::Uring | Engine::TokioUring => {
                ListenerBuilder::by_completion().map_err(EngineError::from)?
            }
            Engine::Epoll => ListenerBuilder::plain(),
        };
        let Inheritance { sockets, origin, predecessor, door, kept_open } = inheritance;
        engine::check_inherited(config, origin.is_some())?;
        let listening = match origin {
            Some(_) => adopt(sockets, &config.listen, config.backlog)?,
            None => open_listeners(config, &mut builder)?,
        };
        let os = |step| move |source| ServerError::Os { step, source };
        let workers = config.workers.get();
        let (addrs, shares) = share_out(listening, workers);
        let control =
            Control::new(workers, each_once(&shares), kept_open).map_err(os("eventfd"))?;
        let mut server = Self {
            info: info(config, addrs, builder.degraded.into_iter().chain(without), sandbox),
            uses: Uses { engine: config.engine, takeover: door.is_some() },
            predecessor,
            control: Arc::new(control),
            published: Vec::new(),
            busy_poll: BusyPollReader::new(workers),
            spin_limit: Arc::new(SharedLimit::unlimited()),
            quota: None,
            workers: Vec::new(),
        };
        server.info.inherited = origin;
        let observed = (config.busy_poll == BusyPoll::Auto)
            .then(|| QuotaReader::new(workers, Arc::clone(&server.spin_limit)));
        server.info.sandbox.restrict_before_workers()?;
        if let Some(reader) = observed {
            server.observe_quota(reader)?;
        }
        let (ready, readiness) = mpsc::channel();
        for (index, listeners) in shares.into_iter().enumerate() {
            let limits = limits(index)?.with_listeners(listeners.len())?;
            let context = server.context(index, listeners, config, limits);
            let ready = ready.clone();
            let worker = move || engine::run(context, &ready);
            server.workers.push(threads::spawn(&format!("echo-{index}"), worker)?);
        }
        drop(ready);
        let server = server.await_readiness(&readiness)?;
        if let Some(door) = door {
            let control = server.control();
            threads::spawn("door", move || door.keep(&control))?;
        }
        Ok(server)
    }

    /// Tells the process that served before, if there is one, that this one does now.
    pub(crate) fn release_predecessor(&mut self) {
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

    fn context(
        &mut self,
        index: usize,
        listeners: Vec<Arc<OwnedFd>>,
        config: &Config,
        limits: WorkerLimits,
    ) -> WorkerContext {
        let published = Arc::new(Published::default());
        self.published.push(Arc::clone(&published));
        let control = Arc::clone(&self.control);
        let busy_poll = Arc::clone(&self.busy_poll.0[index]);
        let spin_limit = Arc::clone(&self.spin_limit);
        let config = config.clone();
        WorkerContext {
            index,
            listeners,
            config,
            limits,
            control,
            published,
            busy_poll,
            spin_limit,
        }
    }

    fn observe_quota(&mut self, reader: QuotaReader) -> Result<(), ThreadError> {
        let observer = QuotaObserver::start(reader, self.busy_poll.0.clone())?;
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
        let published = self.published.clone();
        move || published.iter().map(|worker| worker.read()).sum()
    }

    /// For reading what busy poll does, also after the server has ended.
    #[must_use]
    pub fn busy_poll(&self) -> BusyPollReader {
        self.busy_poll.clone()
    }

    /// Says where the server listens: one line for each address. `argv` is what it was started
    /// with, so that whoever keeps the line knows all there is to know.
    pub fn log_ready(&self, argv: &[String]) {
        let info = &self.info;
        for addr in &info.addrs {
            info!(
                target: READY_LOG,
                %addr,
                families = families(*addr),
                engine = info.engine,
                accept = info.accept,
                workers = info.workers,
                backlog = info.backlog,
                backlog_effective = info.backlog_effective,
                busy_poll = info.busy_poll,
                inherited = info.inherited.map(Origin::name),
                busy_poll_limited_by = info.busy_poll_limited_by.name(),
                degraded = info.degraded.join("; "),
                sandbox = info.sandbox.active.join(" "),
                argv = %serde_json::Value::from(argv),
                "listening"
            );
        }
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
    }
}

/// Who reaches a listener: it takes no IPv4 by an IPv6 socket, not even on `[::]`.
const fn families(addr: SocketAddr) -> &'static str {
    if addr.is_ipv4() { "IPv4" } else { "IPv6 only" }
}

/// Raises the limit of descriptors as far as the kernel allows; returns the limit in force.
fn raise_descriptor_limit() -> u32 {
    let raised = descriptors::raise_limit().unwrap_or_else(|error| {
        debug!(%error, "RLIMIT_NOFILE stays as it is");
        descriptors::limit()
    });
    raised.enforced()
}

fn open_listeners(
    config: &Config,
    builder: &mut ListenerBuilder,
) -> Result<Vec<AddressListeners>, ListenError> {
    let queues = match config.accept {
        AcceptMode::Reuseport => config.workers.get(),
        AcceptMode::Shared => 1,
    };
    config.listen.iter().map(|addr| builder.open(*addr, config.backlog, queues)).collect()
}

/// The addresses, and each worker's listeners: of every address its own queue, several where there
/// are more queues than workers, or one that it shares where there are fewer. No queue is left out.
fn share_out(
    listening: Vec<AddressListeners>,
    workers: usize,
) -> (Vec<SocketAddr>, Vec<Vec<Arc<OwnedFd>>>) {
    let mut addrs = Vec::new();
    let mut shares = vec![Vec::new(); workers];
    for address in listening {
        addrs.push(address.addr);
        let queues: Vec<_> = address.sockets.into_iter().map(Arc::new).collect();
        for (worker, share) in shares.iter_mut().enumerate() {
            let own = queues.iter().skip(worker).step_by(workers);
            let shared = queues.get(worker % queues.len()).filter(|_| worker >= queues.len());
            share.extend(own.chain(shared).cloned());
        }
    }
    (addrs, shares)
}

/// Every listener once, however many workers share it.
fn each_once(shares: &[Vec<Arc<OwnedFd>>]) -> Vec<Weak<OwnedFd>> {
    let mut all: Vec<Weak<OwnedFd>> = Vec::new();
    for listener in shares.iter().flatten().map(Arc::downgrade) {
        if !all.iter().any(|known| known.ptr_eq(&listener)) {
            all.push(listener);
        }
    }
    all
}

fn info(
    config: &Config,
    addrs: Vec<SocketAddr>,
    degraded: impl Iterator<Item = String>,
    sandbox: Sandbox,
) -> ServerInfo {
    ServerInfo {
        addrs,
        engine: config.engine.name(),
        accept: config.accept.name(),
        workers: config.workers.get(),
        backlog: config.backlog,
        backlog_effective: effective_backlog(config.backlog),
        inherited: None,
        busy_poll: config.busy_poll.to_string(),
        busy_poll_limited_by: LimitedBy::None,
        degraded: degraded.collect(),
        sandbox,
    }
}
