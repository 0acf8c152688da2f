//! SIGTERM and SIGINT end a run in order, so that no server is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal is told by [`check`], and the second ends this process at once.
///
/// # Errors
/// What sigaction(2) said.
pub(crate) fn on_signals() -> Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the flag is still unset when the first signal asks for it.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(asked))
            .and_then(|_| flag::register(signal, Arc::clone(asked)))
            .context("installing signal handlers")?;
    }
    Ok(())
}

/// # Errors
/// A signal has come.
pub(crate) fn check() -> Result<()> {
    if ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed)) {
        bail!("ended by a signal; nothing was written");
    }
    Ok(())
}
