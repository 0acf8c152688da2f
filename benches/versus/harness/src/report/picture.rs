//! A table's picture: a panel per cell, a line per candidate, a dot at the median on a bar from the
//! lowest to the highest round.

use loadgen::analyse::statistics::Summary;
use loadgen::render::svg::{Anchor, Canvas, Scale, Span, Stroke, TextStyle};

use super::{CellResult, Row, TableResult, units};
use crate::candidate::Role;
use crate::standing::Better;
use crate::tables::Metric;

const COLUMNS: usize = 3;
const PANEL: f64 = 400.0;
const LABELS: f64 = 118.0;
const VALUES: f64 = 74.0;
const LINE: f64 = 20.0;
const TITLE: f64 = 34.0;
/// Labels of the axis and the space below them.
const AXIS: f64 = 32.0;
const GAP: f64 = 18.0;
const HEAD: f64 = 56.0;
const HEAD_WIDTH: f64 = 700.0;
/// Where the values of a panel lie.
const SPAN: Span = Span { from: LABELS + 8.0, to: PANEL - VALUES };
const LEGEND: &str = "dot: median of the rounds; bar: lowest to highest; blue ours, orange peers, \
                      grey yardsticks and outsiders";

/// Nothing if the table draws nothing or nothing was measured.
pub(super) fn of(table: &TableResult) -> Option<String> {
    let metric = table.metrics.iter().find(|metric| metric.drawn)?;
    let cells: Vec<&CellResult> =
        table.cells.iter().filter(|cell| !medians(cell, metric).is_empty()).collect();
    let lines = cells.iter().map(|cell| cell.rows.len()).max()?;
    let columns = COLUMNS.min(cells.len());
    let height = TITLE + lines as f64 * LINE + AXIS;
    let mut canvas = Canvas::new(
        (columns as f64 * (PANEL + GAP) + GAP).max(HEAD_WIDTH),
        HEAD + cells.len().div_ceil(columns) as f64 * height + GAP,
    );
    head(&mut canvas, table, metric);
    for (index, cell) in cells.iter().enumerate() {
        let x = GAP + (index % columns) as f64 * (PANEL + GAP);
        canvas.move_origin((x, HEAD + (index / columns) as f64 * height));
        panel(&mut canvas, cell, metric);
    }
    Some(canvas.finish())
}

/// Outsiders do not stretch the scale for the others.
fn medians(cell: &CellResult, metric: &Metric) -> Vec<f64> {
    let rows = cell.rows.iter().filter(|row| row.candidate.role != Role::Outsider);
    rows.filter_map(|row| Some(row.number(metric)?.summary.median)).collect()
}

fn head(canvas: &mut Canvas, table: &TableResult, metric: &Metric) {
    let good = match metric.better {
        Better::Lower => "less is better",
        Better::Higher => "more is better",
    };
    let title = format!("{}: {}, {good}", table.title, metric.title);
    canvas.text((GAP, 26.0), &title, TextStyle { size: 16.0, bold: true, ..TextStyle::default() });
    canvas.text((GAP, 44.0), LEGEND, TextStyle { colour: "#666", ..TextStyle::default() });
}

fn panel(canvas: &mut Canvas, cell: &CellResult, metric: &Metric) {
    let scale = Scale::fitting(&medians(cell, metric), SPAN);
    let note = if scale.is_logarithmic() { " (logarithmic)" } else { "" };
    let title = format!("{}{note}", cell.name);
    canvas.text((0.0, 22.0), &title, TextStyle { bold: true, ..TextStyle::default() });
    let rows = Span { from: TITLE, to: TITLE + cell.rows.len() as f64 * LINE };
    canvas.horizontal_axis(&scale, rows, |value| units::text(metric.unit, value));
    for (index, row) in cell.rows.iter().enumerate() {
        let y = TITLE + (index as f64 + 0.5) * LINE;
        entry(canvas, row, metric, &scale, y);
    }
}

fn entry(canvas: &mut Canvas, row: &Row, metric: &Metric, scale: &Scale, y: f64) {
    let style = TextStyle { anchor: Anchor::End, ..TextStyle::default() };
    canvas.text((LABELS, y + 4.0), row.candidate.name, style);
    let summary = row.number(metric).map(|number| number.summary);
    let value = summary.map_or("–".to_owned(), |it| units::text(metric.unit, it.median));
    canvas.text((PANEL, y + 4.0), &value, style);
    if let Some(summary) = summary {
        mark(canvas, &summary, colour(row.candidate.role), scale, y);
    }
}

fn mark(canvas: &mut Canvas, summary: &Summary, colour: &'static str, scale: &Scale, y: f64) {
    let [low, dot, high] = [summary.min, summary.median, summary.max].map(|value| scale.at(value));
    canvas.line((low, y), (high, y), Stroke { colour, width: 5.0, opacity: 0.35 });
    canvas.dot((dot, y), 4.5, colour);
}

fn colour(role: Role) -> &'static str {
    match role {
        Role::Ours => "#1f6fb4",
        Role::Peer => "#d9730d",
        Role::Floor | Role::Outsider => "#888",
    }
}
