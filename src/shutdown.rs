//! Stopping: signals → the server's phase → every worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{SIGINT, SIGTERM};
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

/// The phase, and one eventfd per worker to announce a change: all that workers share.
#[derive(Debug)]
pub struct Control {
    phase: AtomicU8,
    wake_fds: Vec<Arc<OwnedFd>>,
}

impl Control {
    /// A control for `workers` workers.
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake_fd = |_| Ok(Arc::new(eventfd(0, flags)?));
        let wake_fds = (0..workers).map(wake_fd).collect::<io::Result<_>>()?;
        Ok(Self { phase: AtomicU8::new(Phase::Serving as u8), wake_fds })
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

/// Caught signals, from the moment of installation on.
pub(crate) struct Signals {
    caught: signal_hook::iterator::Signals,
}

impl Signals {
    /// Catches SIGTERM and SIGINT from now on.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { caught: signal_hook::iterator::Signals::new([SIGTERM, SIGINT])? })
    }

    /// Starts the threads that act on signals: the first signal drains after `delay`, the second
    /// ends the process at once. They start here and not earlier, because a Landlock sandbox
    /// applies only to the thread that makes it and to those it starts afterwards.
    pub(crate) fn start_handler(
        mut self,
        control: Arc<Control>,
        delay: Duration,
    ) -> Result<(), ThreadError> {
        let (sender, signals) = mpsc::channel();
        threads::spawn("signals", move || {
            self.caught.forever().all(|signal| sender.send(signal).is_ok())
        })?;
        threads::spawn("stop", move || {
            let Ok(signal) = signals.recv() else { return };
            info!(signal, ?delay, "draining; signal again to exit now");
            match signals.recv_timeout(delay) {
                Err(RecvTimeoutError::Timeout) => control.advance(Phase::Draining),
                _ => exit_now(),
            }
            if signals.recv().is_ok() {
                exit_now();
            }
        })?;
        Ok(())
    }
}

/// Exit code of a process that got a second stop signal.
const EXIT_NOW: i32 = 130;

fn exit_now() -> ! {
    warn!("second signal: exiting with connections open");
    log::flush(log::FLUSH_TIMEOUT);
    std::process::exit(EXIT_NOW)
}
