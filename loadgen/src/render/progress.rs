//! How the run goes, on stderr: a bar on a terminal, otherwise a line per second for programs.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::units;
use crate::model::live::{Live, RunLength};

/// Shows the run so far. Used by the main thread only; the generator never prints.
#[derive(Debug)]
pub struct Progress {
    display: Display,
    length: RunLength,
    last: (Duration, u64),
}

#[derive(Debug)]
enum Display {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Nothing with `--quiet`, a bar if stderr is a terminal, lines otherwise.
    pub fn new(length: RunLength, quiet: bool) -> Self {
        let display = match quiet {
            true => Display::Nothing,
            false if redraws() => Display::Bar(bar(length)),
            false => Display::Lines,
        };
        Self { display, length, last: (Duration::ZERO, 0) }
    }

    /// Shows the state at `elapsed` from the start of the run: call it once per second.
    pub fn tick(&mut self, elapsed: Duration, live: &Live) {
        let rate = self.rate(elapsed, live.started);
        match &self.display {
            Display::Nothing => {}
            Display::Lines => say(&line(elapsed, live, rate)),
            Display::Bar(bar) => {
                bar.set_position(position(self.length, elapsed, live));
                bar.set_message(message(live, rate));
            }
        }
    }

    /// Prints a message without breaking the bar. Shown with `--quiet` too.
    pub fn note(&self, text: &str) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| say(text)),
            Display::Lines | Display::Nothing => say(text),
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Display::Bar(bar) = self.display {
            bar.finish_and_clear();
        }
    }

    /// Attempts per second since the last tick.
    fn rate(&mut self, elapsed: Duration, started: u64) -> f64 {
        let (before, already) = std::mem::replace(&mut self.last, (elapsed, started));
        let seconds = elapsed.saturating_sub(before).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
        let attempts = started.saturating_sub(already) as f64;
        if seconds > 0.0 { attempts / seconds } else { 0.0 }
    }
}

/// Whether stderr is a terminal that moves its cursor. `TERM=dumb` says that it does not.
fn redraws() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// How far the run has come, in the unit of its length.
fn position(length: RunLength, elapsed: Duration, live: &Live) -> u64 {
    match length {
        RunLength::Milliseconds(all) => millis(elapsed).min(all),
        RunLength::Connections(all) => live.finished.min(all),
    }
}

fn total(length: RunLength) -> u64 {
    match length {
        RunLength::Milliseconds(n) | RunLength::Connections(n) => n,
    }
}

fn bar(length: RunLength) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:20} {msg}")
        .expect("the template is constant")
        .progress_chars("━━─");
    ProgressBar::new(total(length)).with_style(style)
}

fn message(live: &Live, rate: f64) -> String {
    format!(
        "{}/s  {} in flight  p50 {}  p99 {}{}",
        units::rate(rate.round()),
        units::count(in_flight(live)),
        units::maybe(live.p50_ns),
        units::maybe(live.p99_ns),
        failed(live).map_or_else(String::new, |n| format!("  {} failed", units::count(n)))
    )
}

fn line(elapsed: Duration, live: &Live, rate: f64) -> String {
    format!(
        "t={}s started={} completed={} failed={} in_flight={} rate={rate:.0} p50={} p99={}",
        elapsed.as_secs(),
        live.started,
        live.completed,
        failed(live).unwrap_or(0),
        in_flight(live),
        units::maybe(live.p50_ns),
        units::maybe(live.p99_ns)
    )
}

fn in_flight(live: &Live) -> u64 {
    live.started.saturating_sub(live.finished)
}

fn failed(live: &Live) -> Option<u64> {
    live.finished.checked_sub(live.completed).filter(|&n| n > 0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A line on stderr. It is lost with its reader; the run is not.
pub fn say(text: &str) {
    if let Err(error) = writeln!(io::stderr(), "{text}") {
        debug_assert!(error.kind() == io::ErrorKind::BrokenPipe, "stderr: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Live = Live {
        started: 9000,
        completed: 8985,
        finished: 8990,
        p50_ns: Some(8_400),
        p99_ns: Some(14_000),
    };

    #[test]
    fn a_line_is_made_of_keys_and_values() {
        let line = line(Duration::from_millis(3004), &LIVE, 2999.6);
        assert_eq!(
            line,
            "t=3s started=9000 completed=8985 failed=5 in_flight=10 rate=3000 p50=8.40µs p99=14.0µs"
        );
        assert!(line.split(' ').all(|word| word.contains('=')));
    }

    #[test]
    fn the_bar_is_filled_by_what_ends_the_run() {
        let timed = RunLength::Milliseconds(12_000);
        assert_eq!(position(timed, Duration::from_secs(3), &LIVE), 3000);
        assert_eq!(position(timed, Duration::from_secs(13), &LIVE), 12_000);
        let counted = RunLength::Connections(20_000);
        assert_eq!(position(counted, Duration::from_secs(3), &LIVE), 8990);
    }

    #[test]
    fn the_rate_is_that_of_the_last_interval() {
        let mut progress = Progress::new(RunLength::Connections(1), true);
        assert!(matches!(progress.display, Display::Nothing));
        progress.tick(Duration::from_secs(1), &Live { started: 3000, ..LIVE });
        let rate = progress.rate(Duration::from_secs(3), 9000);
        assert!((rate - 3000.0).abs() < 1e-9);
    }

    #[test]
    fn a_bar_tells_of_failures_only_when_there_are_some() {
        assert!(message(&LIVE, 3000.0).ends_with("p99 14.0µs  5 failed"));
        let fine = Live { completed: 8990, ..LIVE };
        assert_eq!(message(&fine, 3000.0), "3,000/s  10 in flight  p50 8.40µs  p99 14.0µs");
    }
}
