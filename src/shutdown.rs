//! Stopping: signals → no new connections → the server's phase → every worker.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
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
}

impl Control {
    /// A control for `workers` workers on these listening sockets.
    pub(crate) fn new(workers: usize, listeners: Vec<Weak<OwnedFd>>) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake_fd = |_| Ok(Arc::new(eventfd(0, flags)?));
        let wake_fds = (0..workers).map(wake_fd).collect::<io::Result<_>>()?;
        Ok(Self { phase: AtomicU8::new(Phase::Serving as u8), wake_fds, listeners })
    }

    /// Keeps new connections away from the listening sockets; handshakes that have begun still end
    /// in their queues, for which [`HANDSHAKES`] is to be waited. Without this, what comes between
    /// the last look into a queue and its close is reset.
    ///
    /// A socket bound to an interface matches only what arrives through it (SO_BINDTOIFINDEX in
    /// socket(7), without privileges since Linux 5.7), and no interface has this index.
    pub(crate) fn stop_inflow(&self) {
        for listener in self.listeners.iter().filter_map(Weak::upgrade) {
            // The option is one of SOL_SOCKET: the same for IPv6.
            if let Err(error) = SockRef::from(&listener).bind_device_by_index_v4(NO_INTERFACE) {
                warn!(%error, "connections that come while the queues are closed may be reset: \
                    SO_BINDTOIFINDEX (Linux 5.7)");
            }
        }
    }

    /// Moves on to `phase`, unless it is there or further, and wakes every worker.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
        for wake_fd in &self.wake_fds {
            // A counter that is full (EAGAIN) has woken the worker already.
            match rustix::io::write(wake_fd, &1u64.to_ne_bytes()) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => error!(%error, "a worker could not be woken"),
            }
        }
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

/// How long handshakes may take that have begun when the inflow stops.
const HANDSHAKES: Duration = Duration::from_millis(100);
/// The kernel numbers interfaces from 1 upwards.
const NO_INTERFACE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.cast_unsigned());

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
    /// the second ends the process at once; `log_counters` answers SIGUSR1. They start here and not
    /// earlier, because a Landlock sandbox applies only to the thread that makes it and to those it
    /// starts afterwards.
    pub(crate) fn start_handler(
        mut self,
        control: Arc<Control>,
        delay: Duration,
        log_counters: impl Fn() + Send + 'static,
    ) -> Result<(), ThreadError> {
        let (sender, stop_signals) = mpsc::channel();
        threads::spawn("signals", move || {
            self.caught.forever().all(|signal| match signal {
                SIGUSR1 => {
                    log_counters();
                    true
                }
                SIGHUP => {
                    info!("SIGHUP: nothing is reloaded, settings are flags and environment");
                    true
                }
                SIGUSR2 => {
                    info!("SIGUSR2: ignored");
                    true
                }
                stop => sender.send(stop).is_ok(),
            })
        })?;
        threads::spawn("stop", move || stop_on(&stop_signals, &control, delay))?;
        Ok(())
    }
}

/// The steps of a stop; each is cut off by the second signal.
fn stop_on(signals: &mpsc::Receiver<i32>, control: &Control, delay: Duration) {
    let Ok(signal) = signals.recv() else { return };
    info!(signal, ?delay, "draining; signal again to exit now");
    let wait = |time| match signals.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => {}
        _ => exit_now(),
    };
    wait(delay);
    control.stop_inflow();
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
