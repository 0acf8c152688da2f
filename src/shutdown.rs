//! Stopping: signals → one word → every worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::{error, info, warn};

/// What workers are to do. Only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serve.
    Serving = 0,
    /// Take what is queued, finish what is connected, then end.
    Draining = 1,
    /// Close everything and end.
    Stopping = 2,
}

/// The word and the bells: the only thing workers share.
#[derive(Debug)]
pub struct Control {
    phase: AtomicU8,
    bells: Vec<OwnedFd>,
}

impl Control {
    /// A control for `workers` workers.
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let bell = |_| Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let bells = (0..workers).map(bell).collect::<io::Result<_>>()?;
        Ok(Self { phase: AtomicU8::new(Phase::Serving as u8), bells })
    }

    /// Moves on to `phase`, unless it is there or further, and wakes every worker.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
        for bell in &self.bells {
            // A full counter has rung already; anything else would be a descriptor gone wrong.
            match rustix::io::write(bell, &1u64.to_ne_bytes()) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => error!(%error, "a worker could not be woken"),
            }
        }
    }

    /// What to do now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Becomes readable when worker `index` should look at [`Self::phase`].
    pub(crate) fn bell(&self, index: usize) -> BorrowedFd<'_> {
        self.bells[index].as_fd()
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

    /// The first signal drains after `delay`, the second ends the process at once. The threads
    /// that see to it start here and not earlier, for a sandbox holds from its thread on.
    pub(crate) fn steer(mut self, control: Arc<Control>, delay: Duration) -> io::Result<()> {
        let (sender, signals) = mpsc::channel();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || self.caught.forever().all(|signal| sender.send(signal).is_ok()))?;
        thread::Builder::new().name("steer".to_owned()).spawn(move || {
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

/// Exit code of a process that was told twice.
const EXIT_NOW: i32 = 130;

fn exit_now() -> ! {
    warn!("second signal: exiting with connections open");
    std::process::exit(EXIT_NOW)
}
