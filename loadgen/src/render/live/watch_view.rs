//! What the terminal shows of a watch, drawn anew each time.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use super::WatchState;
use super::parts::{NAMES, Paint, entry, percentiles, series, title};
use super::watch_state::ListenerState;
use crate::model::watch::{FULL, LATE_MAX, ListedListener};
use crate::render::table::{Column, row};
use crate::render::units;

/// Rows of everything but the members of a group.
const ROWS_OF_THE_REST: u16 = 16;

/// Draws `state`; without colour where `color` is false.
pub(in crate::render) fn draw(frame: &mut Frame<'_>, state: &WatchState, color: bool) {
    let paint = Paint { color };
    let room = frame.area().height.saturating_sub(ROWS_OF_THE_REST);
    let rows = Layout::vertical([
        Constraint::Length(1), // what is watched
        Constraint::Max(2),    // how waits are told
        Constraint::Length(3), // accepts, queue, drops
        Constraint::Max(1),
        Constraint::Length(3), // percentiles
        Constraint::Max(1),
        Constraint::Fill(1), // p99 of each second
        Constraint::Fill(1), // depth of the accept queue
        Constraint::Fill(1), // accepts of each second
        Constraint::Length(members_wanted(state).min(room)),
        Constraint::Length(1), // the watcher itself
        Constraint::Length(1),
    ])
    .split(frame.area());
    let watch = format!("loadgen watch → {}", state.target);
    frame.render_widget(title(watch, state.elapsed.as_secs(), paint), rows[0]);
    let how = Paragraph::new(how(state)).style(paint.dim()).wrap(Wrap { trim: true });
    frame.render_widget(how, rows[1]);
    frame.render_widget(Paragraph::new(counts(state, paint)), rows[2]);
    let told = |ns| told(state, ns);
    let shown = [("last second", &state.last_second), ("so far", &state.so_far)];
    frame.render_widget(percentiles("waits", shown, told, paint), rows[4]);
    let p99 = told(state.last_second.p99_ns);
    series(frame, rows[6], ("p99 a second", &p99), &state.p99s_ns, None, paint);
    let limit = (state.listeners.len() == 1).then(|| u64::from(state.limit) + 1);
    let waiting = units::count(state.waiting.into());
    series(frame, rows[7], ("waiting", &waiting), &state.depths, limit, paint);
    let rate = format!("{}/s", units::rate(state.rate.round()));
    series(frame, rows[8], ("accepted", &rate), &state.rates, None, paint);
    frame.render_widget(Paragraph::new(members(state, rows[9], paint)), rows[9]);
    frame.render_widget(Paragraph::new(watcher(state, paint)), rows[10]);
    let keys = "Ctrl-C ends the watch with its report";
    frame.render_widget(Paragraph::new(keys).style(paint.dim()), rows[11]);
}

fn told(state: &WatchState, ns: Option<u64>) -> String {
    ns.map_or_else(|| "–".into(), |ns| units::resolved(ns, state.resolution_ns))
}

fn how(state: &WatchState) -> String {
    let resolution = units::duration(state.resolution_ns);
    let because = state.mode_reason.as_ref().map(|reason| format!(": {reason}"));
    let because = because.unwrap_or_default();
    format!("mode {}, waits to within {resolution}{because}", state.mode)
}

fn counts(state: &WatchState, paint: Paint) -> Vec<Line<'static>> {
    let alarm = |sounds: bool| if sounds { paint.fore(Color::Red) } else { Style::new() };
    let mean = state.mean_wait_ns.map(|ns| format!(", mean wait {}", units::duration(ns)));
    let accepted = format!(
        "{}/s, {} so far{}",
        units::rate(state.rate.round()),
        units::count(state.accepts),
        mean.unwrap_or_default()
    );
    let (queue, full) = match state.listeners.is_empty() {
        true => ("nobody listens".to_owned(), true),
        false => queue(state),
    };
    let now = match state.dropped {
        0 => String::new(),
        n => format!(", {} in the last second", units::count(n)),
    };
    let dropped = format!("{}{now}", units::count(state.drops));
    vec![
        entry("accepted", accepted, Style::new(), paint),
        entry("queue", queue, alarm(full), paint),
        entry("dropped", dropped, alarm(state.drops > 0), paint),
    ]
}

/// The queue in words, and whether it is about to overflow.
fn queue(state: &WatchState) -> (String, bool) {
    let count = |n: u32| units::count(n.into());
    let longest = state.longest_wait_ns.map(|ns| format!(", longest {}", units::duration(ns)));
    let changes = match state.restarts {
        0 => String::new(),
        n => format!(", listeners changed {}", units::plural(n, "time")),
    };
    let text = format!(
        "{} waiting{}; at most {} of {}{changes}",
        count(state.waiting),
        longest.unwrap_or_default(),
        count(state.depth_max),
        count(state.limit)
    );
    let fullest = state.listeners.iter().map(ListenerState::fullness).fold(0.0, f64::max);
    (text, fullest >= FULL)
}

impl ListenerState {
    fn fullness(&self) -> f64 {
        ListedListener::fullness(self.depth, self.limit)
    }
}

/// Rows for a table of the members of a group.
fn members_wanted(state: &WatchState) -> u16 {
    match state.listeners.len() {
        0 | 1 => 0,
        n => u16::try_from(n + 1).unwrap_or(u16::MAX),
    }
}

/// As many as there is room for: the last row tells how many are left out.
fn members(state: &WatchState, area: Rect, paint: Paint) -> Vec<Line<'static>> {
    let (all, room) = (&state.listeners, usize::from(area.height));
    if all.len() < 2 || room == 0 {
        return Vec::new();
    }
    let head = member_row(["listener", "waiting", "longest", "at most", "p99", "dropped"]);
    let mut lines = vec![Line::styled(head, paint.dim())];
    let shown = if all.len() < room { all.len() } else { room.saturating_sub(2) };
    lines.extend(all.iter().take(shown).map(|one| {
        let alarm = one.drops > 0 || one.fullness() >= FULL;
        let style = if alarm { paint.fore(Color::Red) } else { Style::new() };
        Line::styled(member(state, one), style)
    }));
    if shown < all.len() {
        lines.push(Line::styled(format!("… {} more", all.len() - shown), paint.dim()));
    }
    lines
}

fn member(state: &WatchState, one: &ListenerState) -> String {
    member_row([
        &one.owner,
        &units::count(one.depth.into()),
        &units::maybe(one.longest_wait_ns),
        &format!("{}/{}", one.depth_max, one.limit),
        &told(state, one.p99_ns),
        &units::count(one.drops),
    ])
}

fn member_row([owner, waiting, longest, most, p99, dropped]: [&str; 6]) -> String {
    use Column::{Left, Right};
    const OWNER: usize = NAMES as usize + 2;
    const COLUMNS: [Column; 6] = [Left(OWNER), Right(7), Right(8), Right(9), Right(8), Right(7)];
    let owner: String = owner.chars().take(OWNER).collect();
    row(&COLUMNS, [&owner, waiting, longest, most, p99, dropped])
}

fn watcher(state: &WatchState, paint: Paint) -> Line<'static> {
    let text = format!(
        "{:.1} % of the samples late, {:.1} % of a core",
        state.late * 100.0,
        state.cores * 100.0
    );
    let style = if state.late > LATE_MAX { paint.fore(Color::Red) } else { Style::new() };
    entry("watcher", text, style, paint)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::model::watch_live::{ListenerSecond, WatchSecond};
    use crate::sys::processes::Owner;

    /// A state after a second with these many listeners.
    fn state(listeners: u32) -> WatchState {
        let mut waits = new_histogram();
        waits.saturating_record_n(2_000_000, 1000);
        waits.saturating_record_n(70_000_000, 30);
        let listener = |inode| ListenerSecond {
            inode,
            depth: 3,
            depth_max: 90,
            limit: 128,
            drops: 5,
            accepts: 0,
            longest_wait_ns: Some(1_000_000 * u64::from(inode)),
            waits: &waits,
        };
        let all: Vec<_> = (1..=listeners).map(listener).collect();
        let second = WatchSecond {
            at_ns: 12_000_000_000,
            length_ns: 1_000_000_000,
            mode: "depth",
            mode_reason: Some("several listeners share the address"),
            resolution_ns: 4_000_000,
            waits: &waits,
            unseen: 0,
            mean_wait_ns: Some(3_000_000),
            accepts: 12_360,
            depth_time_ns: 0.0,
            depth_max: 90,
            drops: 5,
            ticks: 6000,
            late_ticks: 300,
            cpu_ns: 14_000_000,
            restarts: 0,
            listeners: &all,
        };
        let mut state = WatchState::new("127.0.0.1:80".into());
        let owner = Owner { pid: 4711, name: "nginx".into() };
        state.advance(&second, &[(listeners, vec![owner])].into());
        state
    }

    fn drawn(of: &WatchState, width: u16, height: u16, color: bool) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        terminal.draw(|frame| draw(frame, of, color)).expect("in memory");
        terminal
    }

    #[test]
    fn everything_is_shown_from_sixty_columns_on() {
        for (width, height) in [(60, 18), (80, 24), (200, 60)] {
            let text = drawn(&state(1), width, height, true).backend().to_string();
            for part in [
                "loadgen watch → 127.0.0.1:80  12s",
                "mode depth, waits to within 4.00ms",
                "1,030/s, 12,360 so far, mean wait 3.00ms",
                "3 waiting, longest 1.00ms; at most 90 of 128",
                "5, 5 in the last second",
                "< 4.00ms",
                "70.1ms",
                "5.0 % of the samples late, 1.4 % of a core",
                "Ctrl-C",
            ] {
                assert!(text.contains(part), "{width}x{height}: {part}\n{text}");
            }
        }
    }

    #[test]
    fn the_members_of_a_group_stand_apart_the_longest_wait_first() {
        let text = drawn(&state(4), 60, 24, true).backend().to_string();
        let places = ["nginx (4711)", "socket 3", "socket 2", "socket 1"].map(|one| text.find(one));
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
        assert!(text.contains("90/128"), "{text}");
        let few = drawn(&state(40), 60, 24, true).backend().to_string();
        assert!(few.contains("nginx (4711)") && few.contains(" more"), "{few}");
        assert!(few.contains("p99 a second") && few.contains("Ctrl-C"), "{few}");
    }

    #[test]
    fn who_does_not_listen_any_more_is_said() {
        let text = drawn(&state(0), 60, 18, true).backend().to_string();
        assert!(text.contains("nobody listens"), "{text}");
    }

    #[test]
    fn a_terminal_that_shrinks_to_nothing_is_no_panic() {
        for (width, height) in [(0, 0), (1, 1), (7, 3), (30, 5), (60, 2)] {
            drawn(&state(9), width, height, true);
        }
    }

    #[test]
    fn without_colour_there_is_none() {
        let terminal = drawn(&state(4), 80, 24, false);
        let cells = &terminal.backend().buffer().content;
        assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
