//! A table's picture: a panel per cell, a line per candidate, a dot at the median on a bar from the
//! lowest to the highest round.

use super::{CellResult, Row, TableResult, units};
use crate::candidate::Role;
use crate::stats::{Better, Spread};
use crate::tables::Metric;

const COLUMNS: usize = 3;
const PANEL: f64 = 400.0;
const LABELS: f64 = 118.0;
const VALUES: f64 = 74.0;
const LINE: f64 = 20.0;
const TITLE: f64 = 34.0;
const GAP: f64 = 18.0;
const HEAD: f64 = 56.0;
const HEAD_WIDTH: f64 = 700.0;
/// Beyond this ratio of the highest to the lowest median a scale is logarithmic.
const WIDE: f64 = 30.0;

/// Nothing if the table draws nothing or nothing was measured.
pub(super) fn of(table: &TableResult) -> Option<String> {
    let metric = table.metrics.iter().find(|metric| metric.drawn)?;
    let cells: Vec<&CellResult> =
        table.cells.iter().filter(|cell| !medians(cell, metric).is_empty()).collect();
    let lines = cells.iter().map(|cell| cell.rows.len()).max()?;
    let columns = COLUMNS.min(cells.len());
    let height = TITLE + lines as f64 * LINE + GAP;
    let size = (
        (columns as f64 * (PANEL + GAP) + GAP).max(HEAD_WIDTH),
        HEAD + cells.len().div_ceil(columns) as f64 * height + GAP,
    );
    let mut text = head(table, metric, size);
    for (index, cell) in cells.iter().enumerate() {
        let x = GAP + (index % columns) as f64 * (PANEL + GAP);
        let y = HEAD + (index / columns) as f64 * height;
        put(&mut text, &format!("<g transform=\"translate({x:.0},{y:.0})\">"));
        panel(&mut text, cell, metric);
        put(&mut text, "</g>");
    }
    put(&mut text, "</svg>");
    Some(text)
}

/// Outsiders do not stretch the scale for the others.
fn medians(cell: &CellResult, metric: &Metric) -> Vec<f64> {
    let rows = cell.rows.iter().filter(|row| row.candidate.role != Role::Outsider);
    rows.filter_map(|row| Some(row.number(metric)?.spread.median)).collect()
}

fn head(table: &TableResult, metric: &Metric, (width, height): (f64, f64)) -> String {
    let good = match metric.better {
        Better::Lower => "less is better",
        Better::Higher => "more is better",
    };
    let title = escaped(&format!("{}: {}, {good}", table.title, metric.title));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans, Verdana, sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{GAP}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n\
         <text x=\"{GAP}\" y=\"44\" fill=\"#666\">dot: median of the rounds; bar: lowest to \
         highest; blue ours, orange peers, grey yardsticks and outsiders</text>\n"
    )
}

fn panel(text: &mut String, cell: &CellResult, metric: &Metric) {
    let scale = Scale::of(&medians(cell, metric));
    let note = if scale.logarithmic { " (logarithmic)" } else { "" };
    let title = escaped(&format!("{}{note}", cell.name));
    put(text, &format!("<text x=\"0\" y=\"22\" font-weight=\"bold\">{title}</text>"));
    for (index, row) in cell.rows.iter().enumerate() {
        let y = TITLE + (index as f64 + 0.5) * LINE;
        entry(text, row, row.number(metric).map(|number| number.spread), metric, &scale, y);
    }
}

fn entry(
    text: &mut String,
    row: &Row,
    spread: Option<Spread>,
    metric: &Metric,
    scale: &Scale,
    y: f64,
) {
    let (base, end) = (y + 4.0, PANEL - VALUES);
    let name = row.candidate.name;
    put(
        text,
        &format!(
            "<text x=\"{LABELS}\" y=\"{base:.0}\" text-anchor=\"end\">{name}</text>\
             <line x1=\"{}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" stroke=\"#e4e4e4\"/>",
            LABELS + 8.0
        ),
    );
    let value = spread.map_or("–".to_owned(), |spread| units::text(metric.unit, spread.median));
    put(text, &format!("<text x=\"{PANEL}\" y=\"{base:.0}\" text-anchor=\"end\">{value}</text>"));
    let Some(spread) = spread else { return };
    let [low, dot, high] = [spread.min, spread.median, spread.max].map(|value| scale.at(value));
    let colour = match row.candidate.role {
        Role::Ours => "#1f6fb4",
        Role::Peer => "#d9730d",
        Role::Floor | Role::Outsider => "#888",
    };
    put(
        text,
        &format!(
            "<line x1=\"{low:.1}\" y1=\"{y}\" x2=\"{high:.1}\" y2=\"{y}\" stroke=\"{colour}\" \
             stroke-width=\"5\" stroke-opacity=\"0.35\"/>\
             <circle cx=\"{dot:.1}\" cy=\"{y}\" r=\"4.5\" fill=\"{colour}\"/>"
        ),
    );
}

/// From values to places: from zero on, or logarithmic where medians lie far apart.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(medians: &[f64]) -> Self {
        let high = medians.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let positive = medians.iter().copied().filter(|value| *value > 0.0);
        let low = positive.fold(high, f64::min);
        let logarithmic = high / low > WIDE;
        Self { low: if logarithmic { low / 1.5 } else { 0.0 }, high: high * 1.15, logarithmic }
    }

    /// What lies outside is drawn at the edge.
    fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        let start = LABELS + 8.0;
        start + share.clamp(0.0, 1.0) * (PANEL - VALUES - start)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn put(text: &mut String, element: &str) {
    text.push_str(element);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_values_start_at_zero_and_far_ones_are_logarithmic() {
        let near = Scale::of(&[10.0, 20.0]);
        assert!(!near.logarithmic);
        assert_eq!(near.at(0.0), LABELS + 8.0);
        let far = Scale::of(&[1.0, 1000.0]);
        assert!(far.logarithmic);
        assert!(far.at(10.0) > far.at(1.0));
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge() {
        let scale = Scale::of(&[10.0, 20.0]);
        assert_eq!(scale.at(1e9), PANEL - VALUES);
    }
}
