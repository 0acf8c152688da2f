//! What the terminal shows of a run, drawn anew each time.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{LineGauge, Paragraph};

use super::State;
use super::parts::{Paint, entry, percentiles, series, title};
use crate::render::units;

/// Draws `state`; without colour where `color` is false.
pub(in crate::render) fn draw(frame: &mut Frame<'_>, state: &State, color: bool) {
    let paint = Paint { color };
    let rows = Layout::vertical([
        Constraint::Length(1), // what runs
        Constraint::Length(1), // how far it is
        Constraint::Length(1),
        Constraint::Length(3), // rate, in flight, failed
        Constraint::Length(1),
        Constraint::Length(3), // percentiles
        Constraint::Length(1),
        Constraint::Fill(1), // p99 of each second
        Constraint::Fill(1), // depth of the accept queue
        Constraint::Fill(1), // rate of each second
        Constraint::Max(2),  // notes
        Constraint::Length(1),
    ])
    .split(frame.area());
    let run = format!("loadgen run → {}", state.head.target);
    frame.render_widget(title(run, state.elapsed.as_secs(), paint), rows[0]);
    frame.render_widget(gauge(state, paint), rows[1]);
    frame.render_widget(counts(state, paint), rows[3]);
    let live = &state.live;
    let shown = [("last second", &live.last_second), ("so far", &live.so_far)];
    frame.render_widget(percentiles(state.head.phase, shown, units::maybe, paint), rows[5]);
    let p99 = state.live.last_second.p99_ns;
    series(frame, rows[7], ("p99 a second", &units::maybe(p99)), &state.p99s_ns, None, paint);
    let limit = state.live.queue.map(|queue| u64::from(queue.limit) + 1);
    series(frame, rows[8], ("accept queue", &queue(state)), &state.depths, limit, paint);
    let rate = format!("{}/s", units::rate(state.rate.round()));
    series(frame, rows[9], ("rate", &rate), &state.rates, None, paint);
    let notes = state.notes.iter().rev().take(2).rev().map(|note| Line::from(note.as_str()));
    frame.render_widget(Paragraph::new(notes.collect::<Vec<_>>()).style(paint.dim()), rows[10]);
    let keys = "Ctrl-C ends the run with a report of what was measured";
    frame.render_widget(Paragraph::new(keys).style(paint.dim()), rows[11]);
}

fn gauge(state: &State, paint: Paint) -> LineGauge<'_> {
    LineGauge::default()
        .ratio(state.done.clamp(0.0, 1.0))
        .filled_style(paint.fore(Color::Green))
        .unfilled_style(paint.dim())
        .filled_symbol("━")
        .unfilled_symbol("─")
}

fn counts(state: &State, paint: Paint) -> Paragraph<'_> {
    let live = &state.live;
    let planned = state.head.planned_rate.map(|rate| format!(" of {} planned", units::rate(rate)));
    let rate = format!("{}/s{}", units::rate(state.rate.round()), planned.unwrap_or_default());
    let in_flight = units::count(live.started.saturating_sub(live.finished));
    let completed = units::count(live.completed);
    let failed = live.failed.iter().map(|(name, n)| format!("{} {name}", units::count(*n)));
    let failed = failed.collect::<Vec<_>>().join(", ");
    let (failed, style) = match failed.is_empty() {
        true => ("0".into(), Style::new()),
        false => (failed, paint.fore(Color::Red)),
    };
    Paragraph::new(vec![
        entry("rate", rate, Style::new(), paint),
        entry(
            "connections",
            format!("{completed} completed, {in_flight} in flight"),
            Style::new(),
            paint,
        ),
        entry("failed", failed, style, paint),
    ])
}

fn queue(state: &State) -> String {
    let Some(queue) = state.live.queue else { return "not visible".into() };
    format!("{} of {}", units::count(queue.depth.into()), units::count(u64::from(queue.limit) + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::model::live::{Live, LiveHead, LiveQueue, Percentiles};

    fn state() -> State {
        let percentiles =
            Percentiles { p50_ns: Some(8_400), p90_ns: None, p99_ns: Some(14_000), max_ns: None };
        let live = Live {
            started: 9_010,
            completed: 8_985,
            finished: 8_990,
            failed: vec![("refused", 5)],
            so_far: percentiles,
            last_second: percentiles,
            queue: Some(LiveQueue { depth: 3, limit: 128 }),
        };
        let head = LiveHead {
            target: "127.0.0.1:7777".into(),
            phase: "accept_delay",
            planned_rate: Some(3000.0),
        };
        let mut state = State { head, ..State::default() };
        for second in 1..=3 {
            state.advance(Duration::from_secs(second), 0.3, 2999.6, &live);
        }
        state
    }

    fn drawn(width: u16, height: u16, color: bool) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        terminal.draw(|frame| draw(frame, &state(), color)).expect("in memory");
        terminal
    }

    #[test]
    fn everything_is_shown_from_sixty_columns_on() {
        for (width, height) in [(60, 18), (80, 24), (200, 60)] {
            let text = drawn(width, height, true).backend().to_string();
            for part in [
                "loadgen run → 127.0.0.1:7777",
                "3,000/s of 3,000 planned",
                "8,985 completed, 20 in flight",
                "5 refused",
                "8.40µs",
                "14.0µs",
                "3 of 129",
                "Ctrl-C",
            ] {
                assert!(text.contains(part), "{width}x{height}: {part}\n{text}");
            }
        }
    }

    #[test]
    fn a_terminal_that_shrinks_to_nothing_is_no_panic() {
        for (width, height) in [(0, 0), (1, 1), (7, 3), (30, 5)] {
            drawn(width, height, true);
        }
    }

    #[test]
    fn without_colour_there_is_none() {
        let terminal = drawn(80, 24, false);
        let cells = &terminal.backend().buffer().content;
        assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
