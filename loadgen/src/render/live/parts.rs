//! What every view is made of.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use crate::model::live::Percentiles;

/// Columns of the names at the left.
pub(super) const NAMES: u16 = 14;
/// Columns of a percentile.
const NUMBER: usize = 10;
/// Seconds of the past that are drawn at most: more than a terminal has columns.
const SECONDS_MAX: usize = 400;

/// One more second of the past.
pub(super) fn push(series: &mut VecDeque<u64>, value: u64) {
    if series.len() == SECONDS_MAX {
        series.pop_front();
    }
    series.push_back(value);
}

/// A rate as a whole number.
pub(super) fn whole(rate: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
    let whole = rate.round() as u64;
    whole
}

#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) color: bool,
}

impl Paint {
    pub(super) fn fore(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn dim(self) -> Style {
        self.fore(Color::DarkGray)
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// What runs and against whom, and for how long it has.
pub(super) fn title<'a>(what: String, seconds: u64, paint: Paint) -> Paragraph<'a> {
    let elapsed = format!("  {seconds}s");
    let (what, elapsed) = (Span::styled(what, paint.bold()), Span::styled(elapsed, paint.dim()));
    Paragraph::new(Line::from(vec![what, elapsed]))
}

pub(super) fn entry(name: &str, value: String, style: Style, paint: Paint) -> Line<'static> {
    Line::from(vec![named(name, paint), Span::styled(value, style)])
}

fn named(name: &str, paint: Paint) -> Span<'static> {
    Span::styled(format!("{name:<width$}", width = usize::from(NAMES)), paint.dim())
}

/// Of the last second and so far, each number as `told`.
pub(super) fn percentiles(
    phase: &str,
    rows: [(&str, &Percentiles); 2],
    told: impl Fn(Option<u64>) -> String,
    paint: Paint,
) -> Paragraph<'static> {
    let heads = ["p50", "p90", "p99", "max"].map(|name| format!("{name:>NUMBER$}")).concat();
    let row = |(name, percentiles): (&str, &Percentiles)| {
        let Percentiles { p50_ns, p90_ns, p99_ns, max_ns } = *percentiles;
        let numbers =
            [p50_ns, p90_ns, p99_ns, max_ns].map(|ns| format!("{:>NUMBER$}", told(ns))).concat();
        entry(name, numbers, paint.bold(), paint)
    };
    let [last_second, so_far] = rows.map(row);
    Paragraph::new(vec![entry(phase, heads, paint.dim(), paint), last_second, so_far])
}

/// A name, the value now, and the past: the newest second at the right.
pub(super) fn series(
    frame: &mut Frame<'_>,
    area: Rect,
    (name, now): (&str, &str),
    past: &VecDeque<u64>,
    max: Option<u64>,
    paint: Paint,
) {
    let columns = Layout::horizontal([
        Constraint::Length(NAMES),
        Constraint::Length(NAMES),
        Constraint::Fill(1),
    ])
    .split(area);
    frame.render_widget(Paragraph::new(named(name, paint)), columns[0]);
    frame.render_widget(Paragraph::new(now.to_owned()), columns[1]);
    let fits = usize::from(columns[2].width);
    let data: Vec<u64> = past.iter().skip(past.len().saturating_sub(fits)).copied().collect();
    let mut line = Sparkline::default().data(data).style(paint.fore(Color::Cyan));
    if let Some(max) = max {
        line = line.max(max);
    }
    frame.render_widget(line, columns[2]);
}
