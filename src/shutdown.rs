//! Stopping: signals → no new connections → the server's phase → every worker.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use socket2::SockRef;
use tracing::{error, info, warn};

use crate::log;
use crate::sys::threads::{self, ThreadError};

/// The server's phase. It only ever advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serve.
    Serving = 0,
    /// Accept what is queued, finish what is connected, then end.
    Draining = 1,
    /// Close everything and end.
    Stopping = 2,
}

/// The phase, and one eventfd per worker to announce a change: all that workers share. It knows the
/// listening sockets without keeping them open.
#[derive(Debug)]
pub struct Control {
    phase: AtomicU8,
    wake_fds: Vec<Arc<OwnedFd>>,
    listeners: Vec<Weak<OwnedFd>>,
    inflow: Mutex<Inflow>,
    /// The queues are not this process's to empty.
    keeps_queues: AtomicBool,
    /// It listens, and whoever started it knows.
    ready: AtomicBool,
    /// It was told to stop, and may go on serving for a while.
    stopping: AtomicBool,
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inflow {
    /// They come, and would go on coming if this process ended: a service manager has the sockets.
    Kept,
    /// They come.
    Open,
    /// None come any more.
    Stopped,
    /// They go to a successor.
    HandedOn,
}

impl Control {
    /// A control for `workers` workers and a door on these listening sockets, which somebody else
    /// may keep open.
    pub(crate) fn new(
        workers: usize,
        listeners: Vec<Weak<OwnedFd>>,
        kept_open: bool,
    ) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake_fd = |_| Ok(Arc::new(eventfd(0, flags)?));
        let wake_fds = (0..=workers).map(wake_fd).collect::<io::Result<_>>()?;
        Ok(Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            wake_fds,
            listeners,
            inflow: Mutex::new(if kept_open { Inflow::Kept } else { Inflow::Open }),
            keeps_queues: AtomicBool::new(kept_open),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// Keeps new connections away from the listening sockets; handshakes that have begun still end
    /// in their queues, for which [`HANDSHAKES`] is to be waited. Without this, what comes between
    /// the last look into a queue and its close is reset.
    ///
    /// A socket bound to an interface matches only what arrives through it (SO_BINDTOIFINDEX in
    /// socket(7), without privileges since Linux 5.7), and no interface has this index.
    ///
    /// Returns false, and has done nothing, while a successor is starting.
    pub(crate) fn try_stop_inflow(&self) -> bool {
        let Ok(mut inflow) = self.inflow.try_lock() else { return false };
        if *inflow == Inflow::Open {
            *inflow = Inflow::Stopped;
            self.listeners.iter().filter_map(Weak::upgrade).for_each(|socket| keep_away(&socket));
        }
        wake(self.door_wake_fd());
        true
    }

    /// Lets `hand_over` give the listening sockets to a successor, with whether somebody else keeps
    /// them open. If it is true that the successor serves, this server drains, leaves the queues to
    /// it, and this returns true.
    pub(crate) fn hand_on(&self, hand_over: impl FnOnce(&[Arc<OwnedFd>], bool) -> bool) -> bool {
        let mut inflow = self.inflow.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets: Vec<_> = self.listeners.iter().filter_map(Weak::upgrade).collect();
        let complete = sockets.len() == self.listeners.len();
        let can = matches!(*inflow, Inflow::Open | Inflow::Kept) && complete;
        if !can || !hand_over(&sockets, *inflow == Inflow::Kept) {
            return false;
        }
        drop(sockets);
        *inflow = Inflow::HandedOn;
        self.keeps_queues.store(true, Ordering::Release);
        self.advance(Phase::Draining);
        true
    }

    /// Whether the queues are left to whoever else has the listening sockets.
    pub(crate) fn keeps_queues(&self) -> bool {
        self.keeps_queues.load(Ordering::Acquire)
    }

    /// Becomes readable when the server is about to stop.
    pub(crate) fn door_wake_fd(&self) -> &Arc<OwnedFd> {
        &self.wake_fds[self.wake_fds.len() - 1]
    }

    /// From now on new connections may be sent here.
    pub(crate) fn announce_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// From now on new connections should go elsewhere, although they are still served.
    pub(crate) fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::announce_ready`] was called.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether the server stops, or is about to.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.phase() != Phase::Serving
    }

    /// Wakes every worker for one turn of its loop.
    pub(crate) fn wake_workers(&self) {
        self.wake_fds.iter().rev().skip(1).for_each(|wake_fd| wake(wake_fd));
    }

    /// Moves on to `phase`, unless it is there or further, and wakes every worker.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
        self.wake_fds.iter().for_each(|wake_fd| wake(wake_fd));
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Becomes readable when worker `index` should look at [`Self::phase`].
    pub(crate) fn wake_fd(&self, index: usize) -> &Arc<OwnedFd> {
        &self.wake_fds[index]
    }
}

fn wake(wake_fd: &OwnedFd) {
    // A counter that is full (EAGAIN) has woken its reader already.
    match rustix::io::write(wake_fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
        Err(error) => error!(%error, "a thread could not be woken"),
    }
}

fn keep_away(listener: &OwnedFd) {
    // The option is one of SOL_SOCKET: the same for IPv6.
    if let Err(error) = SockRef::from(listener).bind_device_by_index_v4(NO_INTERFACE) {
        warn!(%error, "connections that come while the queues are closed may be reset: \
            SO_BINDTOIFINDEX (Linux 5.7)");
    }
}

/// How long handshakes may take that have begun when the inflow stops.
const HANDSHAKES: Duration = Duration::from_millis(100);
/// How often to look whether a successor has started.
const SUCCESSOR_STARTS: Duration = Duration::from_millis(10);
/// The kernel numbers interfaces from 1 upwards.
const NO_INTERFACE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.cast_unsigned());

/// What is done on a signal beside what this module does.
pub(crate) struct Reactions {
    /// SIGUSR1.
    pub(crate) log_counters: Box<dyn Fn() + Send>,
    /// SIGHUP.
    pub(crate) reload: Box<dyn Fn() + Send>,
    /// The first SIGTERM or SIGINT.
    pub(crate) stopping: Box<dyn Fn() + Send>,
}

/// Caught signals, from the moment of installation on.
pub(crate) struct Signals {
    caught: signal_hook::iterator::Signals,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and those that would end the process otherwise, from now on.
    pub(crate) fn install() -> io::Result<Self> {
        let caught = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2];
        Ok(Self { caught: signal_hook::iterator::Signals::new(caught)? })
    }

    /// Starts the threads that act on signals: the first SIGTERM or SIGINT drains after `delay`,
    /// the second ends the process at once. They start here and not earlier, because a Landlock
    /// sandbox applies only to the thread that makes it and to those it starts afterwards.
    pub(crate) fn start_handler(
        mut self,
        control: Arc<Control>,
        delay: Duration,
        reactions: Reactions,
    ) -> Result<(), ThreadError> {
        let (sender, stop_signals) = mpsc::channel();
        let Reactions { log_counters, reload, stopping } = reactions;
        threads::spawn("signals", move || {
            self.caught.forever().all(|signal| match signal {
                SIGUSR1 => {
                    log_counters();
                    true
                }
                SIGHUP => {
                    info!("SIGHUP: nothing is reloaded, settings are read at the start");
                    reload();
                    true
                }
                SIGUSR2 => {
                    info!("SIGUSR2: ignored");
                    true
                }
                stop => sender.send(stop).is_ok(),
            })
        })?;
        threads::spawn("stop", move || stop_on(&stop_signals, &control, delay, &stopping))?;
        Ok(())
    }
}

/// The steps of a stop; each is cut off by the second signal.
fn stop_on(signals: &mpsc::Receiver<i32>, control: &Control, delay: Duration, stopping: &dyn Fn()) {
    let Ok(signal) = signals.recv() else { return };
    control.announce_stop();
    stopping();
    info!(signal, ?delay, "draining; signal again to exit now");
    let wait = |time| match signals.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => {}
        _ => exit_now(),
    };
    wait(delay);
    while !control.try_stop_inflow() {
        wait(SUCCESSOR_STARTS);
    }
    wait(HANDSHAKES);
    control.advance(Phase::Draining);
    if signals.recv().is_ok() {
        exit_now();
    }
}

/// Exit code of a process that got a second stop signal.
const EXIT_NOW: i32 = 130;

fn exit_now() -> ! {
    warn!("second signal: exiting with connections open");
    log::flush(log::FLUSH_TIMEOUT);
    std::process::exit(EXIT_NOW)
}
