//! What both clients of the harness are told about time, and whose CPU time they read.

use std::thread;
use std::time::Duration;

/// When to measure, how long, and whom.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Milliseconds of measurement
    #[arg(long, default_value_t = 1000)]
    duration: u64,
    /// Milliseconds of silence before the first and after the last message
    #[arg(long, default_value_t = 0)]
    settle: u64,
    /// Process whose CPU time is read at both ends of the measurement
    #[arg(long)]
    pub(crate) watch: Option<u32>,
}

impl Span {
    pub(crate) const fn duration(&self) -> Duration {
        Duration::from_millis(self.duration)
    }

    /// Sends nothing for as long as was asked for.
    pub(crate) fn settle(&self) {
        thread::sleep(Duration::from_millis(self.settle));
    }
}
