//! The charts of one result.

use crate::model::evidence::QueueEvidence;
use crate::model::interval::Interval;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::RunResult;
use crate::render::chart::{self, Axis, Cell, Chart, Curve, Limit, Mark, Series};
use crate::render::units;

/// Columns and rows of the heat map: what a chart can show, however many intervals there are.
const COLUMNS: usize = 120;
/// Rows per factor of ten.
const ROWS_PER_DECADE: f64 = 8.0;

/// The names of the phases with samples: those known in the order of the report, then the others.
pub(super) fn phases(result: &RunResult) -> Vec<&str> {
    let known = Phase::ALL.map(Phase::name);
    let others = result.histograms.keys().map(String::as_str).filter(|name| !known.contains(name));
    let sampled = |name: &&str| result.histograms.get(*name).is_some_and(|s| s.count > 0);
    known.into_iter().chain(others).filter(sampled).collect()
}

/// The percentile curves of all phases. A histogram that cannot be read is left out.
pub(super) fn percentiles(result: &RunResult) -> Option<Chart> {
    let curves: Vec<Curve> = phases(result)
        .into_iter()
        .filter_map(|name| {
            let histogram = result.histograms[name].histogram().ok()?;
            Some(Curve { name: name.to_owned(), histogram })
        })
        .collect();
    (!curves.is_empty()).then(|| chart::percentiles("Percentiles of all phases", &curves))
}

/// The phase that the heat map shows: accept_delay, or connect where no accept was observed.
pub(super) fn primary(result: &RunResult) -> Option<&'static str> {
    let seen = |phase: &Phase| result.intervals.iter().any(|i| sampled(i, phase.name()));
    let phases = [Phase::AcceptDelay, Phase::Connect];
    phases.into_iter().find(seen).map(Phase::name)
}

fn sampled(interval: &Interval, phase: &str) -> bool {
    interval.histograms.get(phase).is_some_and(|summary| summary.count > 0)
}

/// How delays are distributed in each stretch of time: darker where more of its samples are.
pub(super) fn heat_map(result: &RunResult) -> Option<Chart> {
    let phase = primary(result)?;
    let columns: Vec<Column> = columns(&result.intervals, phase);
    let rows = columns.iter().flat_map(|column| column.rows.iter());
    let (low, high) =
        rows.fold((i32::MAX, i32::MIN), |(low, high), (row, _)| (low.min(*row), high.max(row + 1)));
    let end = columns.iter().map(|column| column.to).fold(0.0, f64::max);
    let bounds = if low < high { [value(low), value(high)] } else { [1.0, 10.0] };
    let mut chart = Chart::new(
        format!("{phase} over time"),
        Axis::linear("seconds since the begin", 0.0, end, units::rate),
        Axis::logarithmic("time", bounds, units::round_duration),
    );
    for column in &columns {
        let fullest = column.rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
        chart.cells.extend(column.rows.iter().map(|(row, count)| Cell {
            x: (column.from, column.to),
            y: (value(*row), value(row + 1)),
            intensity: *count as f64 / fullest as f64,
        }));
    }
    for (name, colour, quantile) in [("p50", 2, Column::p50 as Quantile), ("p99", 1, Column::p99)] {
        let points = columns.iter().filter_map(|c| Some(((c.from + c.to) / 2.0, quantile(c)?)));
        let (name, points) = (name.to_owned(), points.collect());
        chart.series.push(Series { name, colour, points, ..Series::default() });
    }
    Some(chart)
}

type Quantile = fn(&Column) -> Option<f64>;

/// Some intervals with samples, added up by rows of the heat map.
struct Column {
    from: f64,
    to: f64,
    /// Row and samples in it, ascending.
    rows: Vec<(i32, u64)>,
    p50: Option<u64>,
    p99: Option<u64>,
}

impl Column {
    fn p50(&self) -> Option<f64> {
        self.p50.map(|ns| ns.max(1) as f64)
    }

    fn p99(&self) -> Option<f64> {
        self.p99.map(|ns| ns.max(1) as f64)
    }
}

fn columns(intervals: &[Interval], phase: &str) -> Vec<Column> {
    let with_samples: Vec<&Interval> = intervals.iter().filter(|i| sampled(i, phase)).collect();
    let each = with_samples.len().div_ceil(COLUMNS).max(1);
    with_samples.chunks(each).filter_map(|chunk| column(chunk, phase)).collect()
}

/// Nothing where the histograms cannot be read.
fn column(intervals: &[&Interval], phase: &str) -> Option<Column> {
    let mut sum = intervals.first()?.histograms[phase].histogram().ok()?;
    for interval in &intervals[1..] {
        sum.add(interval.histograms[phase].histogram().ok()?).ok()?;
    }
    let from = intervals.iter().map(|i| i.start_ns).min()?;
    let to = intervals.iter().map(|i| i.start_ns.saturating_add(i.length_ns)).max()?;
    let mut rows: Vec<(i32, u64)> = Vec::new();
    for step in sum.iter_recorded() {
        let row = row(step.value_iterated_to());
        match rows.last_mut() {
            Some((last, count)) if *last == row => *count += step.count_at_value(),
            _ => rows.push((row, step.count_at_value())),
        }
    }
    let [p50, p99] = [0.5, 0.99].map(|q| Some(sum.value_at_quantile(q)));
    Some(Column { from: seconds(from), to: seconds(to), rows, p50, p99 })
}

#[expect(clippy::cast_possible_truncation, reason = "a logarithm of 64 bits is small")]
fn row(ns: u64) -> i32 {
    ((ns.max(1) as f64).log10() * ROWS_PER_DECADE).floor() as i32
}

/// The lower end of a row, nanoseconds.
fn value(row: i32) -> f64 {
    10f64.powf(f64::from(row) / ROWS_PER_DECADE)
}

/// Connects per second that were called, over the planned rate where there is one.
pub(super) fn rate(result: &RunResult) -> Option<Chart> {
    let last = result.intervals.iter().map(end).max()?;
    let attempted = |i: &Interval| {
        let shed = i.outcomes.of(Outcome::Shed);
        i.outcomes.attempted.saturating_sub(shed).saturating_add(i.warmup_excluded)
    };
    let failed = |i: &Interval| {
        let completed = i.outcomes.of(Outcome::Completed);
        i.outcomes.finished().saturating_sub(completed)
    };
    let mut series = Vec::new();
    if let Some(target) = result.generator.target_rate {
        let points = vec![(0.0, target), (seconds(last), target)];
        series.push(Series { name: "intended".into(), colour: 7, points, ..Series::default() });
    }
    series.push(per_second(&result.intervals, "achieved", 0, attempted));
    if result.intervals.iter().any(|interval| failed(interval) > 0) {
        series.push(per_second(&result.intervals, "ended otherwise than completed", 5, failed));
    }
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, y)| *y));
    let high = values.fold(1.0, f64::max);
    let mut chart = Chart::new(
        "Connections per second",
        Axis::linear("seconds since the begin", 0.0, seconds(last), units::rate),
        Axis::linear("per second", 0.0, high * 1.15, units::rate),
    );
    chart.series = series;
    Some(chart)
}

fn per_second(
    intervals: &[Interval],
    name: &str,
    colour: usize,
    count: impl Fn(&Interval) -> u64,
) -> Series {
    let rate = |i: &Interval| count(i) as f64 / seconds(i.length_ns.max(1));
    let mut points: Vec<_> = intervals.iter().map(|i| (seconds(i.start_ns), rate(i))).collect();
    points.extend(intervals.last().map(|i| (seconds(end(i)), rate(i))));
    Series { name: name.into(), colour, points, mark: Mark::Steps, ..Series::default() }
}

fn end(interval: &Interval) -> u64 {
    interval.start_ns.saturating_add(interval.length_ns)
}

/// The accept queue over time against its limit; where only its deepest and its mean are known,
/// those as lines.
pub(super) fn accept_queue(result: &RunResult) -> Option<Chart> {
    let queue = result.evidence.accept_queue.as_ref()?;
    let series = if queue.series.is_empty() { levels(queue) } else { vec![depth(queue)] };
    let limit = f64::from(queue.limit);
    let end = series.iter().flat_map(|s| s.points.last()).map(|(x, _)| *x).fold(0.0, f64::max);
    let depths = series.iter().flat_map(|series| series.points.iter().map(|(_, y)| *y));
    let values: Vec<f64> = depths.chain([limit, 1.0]).collect();
    let mut chart = Chart::new(
        "Accept queue",
        Axis::linear("seconds since the begin", 0.0, end, units::rate),
        Axis::fitting("connections waiting", values, units::rate),
    );
    chart.series = series;
    let name = format!("limit {}", units::count(queue.limit.into()));
    chart.limits.push(Limit { name, y: limit });
    Some(chart)
}

fn depth(queue: &QueueEvidence) -> Series {
    let deepest = units::count(queue.depth_max.into());
    let points = queue.series.iter().map(|point| (seconds(point.at_ns), f64::from(point.depth)));
    Series {
        name: format!("longest queue of a listener (at most {deepest})"),
        points: points.collect(),
        mark: Mark::Steps,
        ..Series::default()
    }
}

fn levels(queue: &QueueEvidence) -> Vec<Series> {
    let level = |name: String, colour, depth| {
        let points = vec![(0.0, depth), (1.0, depth)];
        Series { name, colour, points, ..Series::default() }
    };
    let deepest = format!("deepest {}", units::count(queue.depth_max.into()));
    vec![
        level(deepest, 0, f64::from(queue.depth_max)),
        level(format!("mean {:.2}", queue.depth_mean), 2, queue.depth_mean),
    ]
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
