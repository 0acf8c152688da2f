//! The log of a serving process.

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::log::{self, LogError};
use crate::server::READY_LOG;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Starts it, on a thread that calls `confine` first.
pub(super) fn start(
    format: LogFormat,
    confine: impl FnOnce() + Send + 'static,
) -> Result<(), LogError> {
    let log = log::start(confine)?;
    let filter = EnvFilter::builder()
        .with_default_directive(Level::INFO.into())
        .with_env_var(EnvFilter::DEFAULT_ENV)
        .from_env_lossy()
        .add_directive(format!("{READY_LOG}=info").parse().expect("a directive"));
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = !dumb && !objection && rustix::termios::isatty(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log)
        .log_internal_errors(false)
        .with_ansi(color);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
