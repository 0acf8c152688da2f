//! What a subcommand prints: its result on standard output, what ended it on standard error.
//!
//! Either may be a pipe whose reader is gone, which `println!` answers with a panic.

use std::io::{self, Write};

use anyhow::{Context, Error, Result};
use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::log::LogFormat;
use crate::log;

/// Prints a result.
///
/// # Errors
/// What writing to standard output failed with.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.context("writing to standard output")
}

/// Says what ended the program, behind everything that was logged and in the same format.
pub(super) fn fatal(error: &Error, format: LogFormat) {
    let text = chain(error);
    log::last_words(&match format {
        LogFormat::Text => format!("uring-echo: {text}\n"),
        LogFormat::Json => {
            let fields = json!({"message": text});
            let target = "uring_echo";
            let record =
                json!({"timestamp": now(), "level": "ERROR", "fields": fields, "target": target});
            format!("{record}\n")
        }
    });
}

/// The error and its causes, each once: many a message holds its cause's already.
pub(super) fn chain(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn now() -> String {
    let mut text = String::new();
    match SystemTime.format_time(&mut Writer::new(&mut text)) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("bind: {source}; try another")]
    struct Holding {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let holding = Error::new(Holding { source: denied() }).context("starting");
        assert_eq!(chain(&holding), "starting: bind: permission denied; try another");
        assert_eq!(chain(&Error::new(denied()).context("reading")), "reading: permission denied");
    }
}
