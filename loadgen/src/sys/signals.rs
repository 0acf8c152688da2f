//! Requests to stop by signal: SIGINT, SIGTERM and SIGHUP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Set by the first signal, which requests a partial report. The second signal ends the process.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Installs handlers for the signals; the second signal exits with `status`.
    ///
    /// SIGHUP (the terminal was closed) requests the report as Ctrl-C does: stdout may have no
    /// reader any more, but the files are still written.
    ///
    /// # Errors
    /// The error of sigaction(2).
    pub fn on_signals(status: i32) -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: at the first signal the shutdown handler still finds the flag unset.
            flag::register_conditional_shutdown(signal, status, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Whether a signal has arrived, or [`Self::set`] was called.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Requests the stop, as a signal does.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for threads that read it in every iteration of their loop.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
