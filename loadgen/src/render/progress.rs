//! How the run goes, on stderr: on a terminal all of it, or a bar where it is small; otherwise a
//! line per second for programs.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::live::{Screen, State, draw_run};
use super::{output, units};
use crate::model::live::{Live, LiveHead, RunLength};

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
    /// The whole terminal, from the first tick on.
    Live(Box<LiveDisplay>),
}

#[derive(Debug, Default)]
struct LiveDisplay {
    screen: Option<Screen>,
    state: State,
}

impl Progress {
    /// Nothing with `quiet`. On a terminal the whole of it, if it is large enough, else a bar;
    /// lines on anything else and on a terminal that knows no escape sequences.
    pub fn new(length: RunLength, quiet: bool) -> Self {
        let display = match quiet {
            true => Display::Nothing,
            false if !redraws() => Display::Lines,
            false if Screen::fits() => Display::Live(Box::default()),
            false => Display::Bar(bar(length)),
        };
        Self { display, length, last: (Duration::ZERO, 0) }
    }

    /// Says what is shown.
    pub fn describe(&mut self, head: LiveHead) {
        if let Display::Live(live) = &mut self.display {
            live.state.head = head;
        }
    }

    /// Shows the state at `elapsed` from the start of the run: call it once per second.
    pub fn tick(&mut self, elapsed: Duration, live: &Live) {
        let rate = self.rate(elapsed, live.started);
        let position = position(self.length, elapsed, live);
        match &mut self.display {
            Display::Nothing => {}
            Display::Lines => say(&line(elapsed, live, rate)),
            Display::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(message(live, rate));
            }
            Display::Live(shown) => {
                shown.state.advance(elapsed, share(position, total(self.length)), rate, live);
                self.redraw();
            }
        }
    }

    /// Draws again what is shown, at the size that the terminal has now.
    pub fn redraw(&mut self) {
        let Display::Live(shown) = &mut self.display else { return };
        // Before the first tick there is nothing to show but messages, which are printed.
        if shown.state.elapsed.is_zero() {
            return;
        }
        if let Err(error) = shown.draw() {
            self.leave_screen();
            self.note(&format!("the terminal cannot be drawn on: {error}"));
        }
    }

    /// Prints a message without breaking what is shown. Shown with `--quiet` too.
    pub fn note(&mut self, text: &str) {
        match &mut self.display {
            Display::Bar(bar) => bar.suspend(|| say(text)),
            Display::Live(shown) if shown.screen.is_some() => {
                shown.state.notes.push(text.to_owned());
            }
            Display::Lines | Display::Nothing | Display::Live(_) => say(text),
        }
    }

    /// Gives the terminal back because the run is about to end, on request of the user: a second
    /// signal ends the process at once, and must find the terminal as it was.
    pub fn stopping(&mut self) {
        if self.leave_screen() {
            say("stopping: what is in flight is waited for; the same again ends it at once");
        }
    }

    /// Removes what is shown.
    pub fn finish(mut self) {
        self.leave_screen();
        if let Display::Bar(bar) = self.display {
            bar.finish_and_clear();
        }
    }

    /// Whether there was a screen to leave. Its messages are printed where they stay.
    fn leave_screen(&mut self) -> bool {
        if !matches!(self.display, Display::Live(_)) {
            return false;
        }
        let Display::Live(shown) = std::mem::replace(&mut self.display, Display::Nothing) else {
            return false;
        };
        let LiveDisplay { screen, state } = *shown;
        drop(screen);
        state.notes.iter().for_each(|note| say(note));
        true
    }

    /// Attempts per second since the last tick.
    fn rate(&mut self, elapsed: Duration, started: u64) -> f64 {
        let (before, already) = std::mem::replace(&mut self.last, (elapsed, started));
        let seconds = elapsed.saturating_sub(before).as_secs_f64();
        let attempts = approximately(started.saturating_sub(already));
        if seconds > 0.0 { attempts / seconds } else { 0.0 }
    }
}

impl LiveDisplay {
    fn draw(&mut self) -> io::Result<()> {
        if self.screen.is_none() {
            self.screen = Some(Screen::open(output::wants_color())?);
        }
        let Self { screen, state } = self;
        screen
            .iter_mut()
            .try_for_each(|screen| screen.draw(|frame, color| draw_run(frame, state, color)))
    }
}

/// Whether stderr is a terminal that moves its cursor. `TERM=dumb` says that it does not.
pub(super) fn redraws() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !dumb
}

fn share(position: u64, total: u64) -> f64 {
    approximately(position) / approximately(total.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "a rate or share needs no more than 53 bits")]
fn approximately(n: u64) -> f64 {
    n as f64
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
        units::maybe(live.so_far.p50_ns),
        units::maybe(live.so_far.p99_ns),
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
        units::maybe(live.so_far.p50_ns),
        units::maybe(live.so_far.p99_ns)
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
    use crate::model::live::Percentiles;

    fn live() -> Live {
        let so_far =
            Percentiles { p50_ns: Some(8_400), p99_ns: Some(14_000), ..Percentiles::default() };
        Live { started: 9000, completed: 8985, finished: 8990, so_far, ..Live::default() }
    }

    #[test]
    fn a_line_is_made_of_keys_and_values() {
        let line = line(Duration::from_millis(3004), &live(), 2999.6);
        assert_eq!(
            line,
            "t=3s started=9000 completed=8985 failed=5 in_flight=10 rate=3000 p50=8.40µs p99=14.0µs"
        );
        assert!(line.split(' ').all(|word| word.contains('=')));
    }

    #[test]
    fn the_bar_is_filled_by_what_ends_the_run() {
        let timed = RunLength::Milliseconds(12_000);
        assert_eq!(position(timed, Duration::from_secs(3), &live()), 3000);
        assert_eq!(position(timed, Duration::from_secs(13), &live()), 12_000);
        let counted = RunLength::Connections(20_000);
        assert_eq!(position(counted, Duration::from_secs(3), &live()), 8990);
    }

    #[test]
    fn the_rate_is_that_of_the_last_interval() {
        let mut progress = Progress::new(RunLength::Connections(1), true);
        assert!(matches!(progress.display, Display::Nothing));
        progress.tick(Duration::from_secs(1), &Live { started: 3000, ..live() });
        let rate = progress.rate(Duration::from_secs(3), 9000);
        assert!((rate - 3000.0).abs() < 1e-9);
    }

    #[test]
    fn a_bar_tells_of_failures_only_when_there_are_some() {
        assert!(message(&live(), 3000.0).ends_with("p99 14.0µs  5 failed"));
        let fine = Live { completed: 8990, ..live() };
        assert_eq!(message(&fine, 3000.0), "3,000/s  10 in flight  p50 8.40µs  p99 14.0µs");
    }
}
