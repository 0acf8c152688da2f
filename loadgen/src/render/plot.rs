//! A percentile plot in characters: latency against rarity, both logarithmic.

use hdrhistogram::Histogram;

use crate::render::units;

/// Rows of the plot.
const HEIGHT: usize = 10;
/// Columns left of the axis.
const MARGIN: usize = 8;

/// Draws the percentiles of a histogram of nanoseconds into lines of at most `width` characters.
/// Empty without enough samples to have a shape.
pub fn render(histogram: &Histogram<u64>, width: usize) -> Vec<String> {
    const SAMPLES_MIN: u64 = 10;
    if histogram.len() < SAMPLES_MIN || width < MARGIN + 20 {
        return Vec::new();
    }
    let columns = width - MARGIN - 2;
    let plot = Plot::of(histogram, columns);
    let mut lines: Vec<String> = (0..HEIGHT).map(|row| plot.row(row)).collect();
    lines.extend(plot.x_axis());
    lines
}

/// A curve that only rises: one row per column, 0 at the top.
struct Plot {
    rows: Vec<usize>,
    /// log10 of the values at the bottom and at the top.
    low: f64,
    high: f64,
    /// Nines at the right edge: 3 is 99.9 %.
    nines: f64,
}

impl Plot {
    fn of(histogram: &Histogram<u64>, columns: usize) -> Self {
        let nines = approx(histogram.len()).log10();
        let quantile = |column: usize| {
            let x = nines * share(column, columns - 1);
            1.0 - 10f64.powf(-x)
        };
        let mut values: Vec<f64> = (0..columns)
            .map(|c| approx(histogram.value_at_quantile(quantile(c))).log10())
            .collect();
        values[columns - 1] = approx(histogram.max()).log10();
        let (low, high) = bounds(values[0], values[columns - 1]);
        let rows = values.iter().map(|v| row_of(*v, low, high)).collect();
        Self { rows, low, high, nines }
    }

    fn row(&self, row: usize) -> String {
        let label = self.label(row);
        let tick = if label.is_empty() { '│' } else { '┤' };
        let curve: String = (0..self.rows.len()).map(|column| self.cell(column, row)).collect();
        let line = format!("{label:>MARGIN$} {tick}{curve}");
        line.trim_end().to_owned()
    }

    fn cell(&self, column: usize, row: usize) -> char {
        let here = self.rows[column];
        let before = self.rows[column.saturating_sub(1)];
        match row {
            _ if row == here && here == before => '─',
            _ if row == here => '╭',
            _ if row == before => '╯',
            _ if here < row && row < before => '│',
            _ => ' ',
        }
    }

    /// A round value whose row this is.
    fn label(&self, row: usize) -> String {
        let round = round_values(self.low, self.high).find(|v| self.row_at(*v) == row);
        round.map(|v| units::round_duration(10f64.powf(v))).unwrap_or_default()
    }

    fn row_at(&self, value: f64) -> usize {
        row_of(value, self.low, self.high)
    }

    fn x_axis(&self) -> [String; 2] {
        let columns = self.rows.len();
        let (mut rule, mut names) = (vec!['─'; columns], vec![' '; columns]);
        for (nines, name) in
            [(0.0, "0%"), (1.0, "90%"), (2.0, "99%"), (3.0, "99.9%"), (4.0, "99.99%")]
        {
            let column = column_of(nines / self.nines, columns - 1);
            if nines > self.nines {
                break;
            }
            rule[column] = '┬';
            let begin = column.saturating_sub(name.len() / 2).min(columns - name.len());
            names.splice(begin..begin + name.len(), name.chars());
        }
        let rule: String = rule.into_iter().collect();
        let names: String = names.into_iter().collect();
        let indent = " ".repeat(MARGIN);
        [format!("{indent} └{rule}"), format!("{indent}  {}", names.trim_end())]
    }
}

/// Widens to 1, 2 or 5 times a power of ten, so that there are round values to label.
fn bounds(min: f64, max: f64) -> (f64, f64) {
    let steps = [0.0, 2f64.log10(), 5f64.log10(), 1.0];
    let below = |v: f64| steps.iter().rev().map(|s| v.floor() + s).find(|b| *b <= v + 1e-9);
    let above = |v: f64| steps.iter().map(|s| v.floor() + s).find(|b| *b >= v - 1e-9);
    let low = below(min).unwrap_or(min);
    let high = above(max).unwrap_or(max);
    if high - low < 0.1 { (low, low + 0.31) } else { (low, high) }
}

/// Powers of ten first, then the ends, then twos and fives where there are few decades: the first
/// to claim a row labels it.
fn round_values(low: f64, high: f64) -> impl Iterator<Item = f64> {
    const FEW: f64 = 2.0;
    let decades = move |step: f64| {
        (0..12u8).map(move |d| f64::from(d) + step).filter(move |v| inside(*v, low, high))
    };
    let between = [2f64.log10(), 5f64.log10()].into_iter().flat_map(decades);
    let few = high - low <= FEW;
    decades(0.0).chain([low, high]).chain(between.filter(move |_| few))
}

fn inside(value: f64, low: f64, high: f64) -> bool {
    (low - 1e-9..=high + 1e-9).contains(&value)
}

fn row_of(value: f64, low: f64, high: f64) -> usize {
    HEIGHT - 1 - column_of((value - low) / (high - low), HEIGHT - 1)
}

/// The nearest of `last + 1` positions.
fn column_of(share: f64, last: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "clamped to 0 and above")]
    #[expect(clippy::cast_precision_loss, reason = "a terminal is not that wide")]
    let position = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    position
}

#[expect(clippy::cast_precision_loss, reason = "a terminal is not that wide")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[expect(clippy::cast_precision_loss, reason = "a plot needs no more than 53 bits")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = crate::model::histogram::new_histogram();
        values.into_iter().for_each(|v| histogram.saturating_record(v));
        histogram
    }

    #[test]
    fn a_tail_climbs_to_the_right() {
        let fast = (0..990).map(|i| 8_000 + i);
        let lines = render(&histogram(fast.chain([1_900_000; 10])), 60);
        assert_eq!(lines.len(), HEIGHT + 2);
        assert!(lines.iter().all(|l| l.chars().count() <= 60), "{lines:#?}");
        let top = lines.iter().position(|l| l.contains('╭')).unwrap();
        let bottom = lines.iter().position(|l| l.contains('╯')).unwrap();
        assert!(top < bottom);
        assert!(lines[0].starts_with("     2ms ┤"), "{lines:#?}");
        assert!(lines[HEIGHT + 1].contains("99%") && lines[HEIGHT + 1].contains("99.9%"));
    }

    #[test]
    fn equal_samples_are_a_flat_line() {
        let lines = render(&histogram([10_000; 50]), 60);
        assert_eq!(lines.iter().filter(|l| l.contains("────") && !l.contains('└')).count(), 1);
    }

    #[test]
    fn too_few_samples_or_columns_draw_nothing() {
        assert!(render(&histogram([5; 9]), 80).is_empty());
        assert!(render(&histogram([5; 90]), 20).is_empty());
    }
}
