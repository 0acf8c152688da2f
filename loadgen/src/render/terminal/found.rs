//! What a search found: the rate, whose limit it is, and the curve to the knee.

use super::{NAMES, Style, WIDTH, entry, wrap};
use crate::model::found::{CurvePoint, Found, Limit};
use crate::model::verdict::Slo;
use crate::render::table::{
    self,
    Column::{Left, Right},
};
use crate::render::{objectives, units};

/// Rows and columns of the curve.
const HEIGHT: usize = 9;
const MARGIN: usize = 9;

/// The report of a search.
pub fn found(found: &Found, style: Style) -> String {
    let title = format!("loadgen {} find: {}", found.tool.version, found.slo.join(", "));
    let mut lines = wrap(&title, WIDTH, "  ");
    if let Some(first) = lines.first_mut() {
        *first = style.bold(first);
    }
    lines.push(String::new());
    lines.push(row(["rate", "runs", "held", "p50", "p99", &found.slo[0]]));
    lines.extend(found.curve.iter().map(|point| point_row(found, point)));
    if found.curve.iter().any(undecided) {
        let note = "? the generator could not offer this rate as planned: what was measured says \
                    nothing about the server";
        lines.extend(wrap(note, WIDTH, "  "));
    }
    lines.extend(curve(found, style));
    lines.push(String::new());
    lines.extend(entry("found", wrap(&answer(found), WIDTH - NAMES, "")));
    lines.extend(entry("limit", limit(found)));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// An objective with what was measured, as in `✓ accept_delay.p99<5ms 1.20ms`. What was measured
/// without the load that was planned decides nothing.
pub fn objective(slo: &Slo, offered: bool) -> String {
    let mark = match (offered, slo.met) {
        (false, _) => UNDECIDED,
        (true, true) => '✓',
        (true, false) => '✗',
    };
    format!("{mark} {} {}", slo.expr, objectives::measured(slo))
}

/// Whether the rate was not offered: its values, good or bad, say nothing about the server.
fn undecided(point: &CurvePoint) -> bool {
    !point.holds && point.limit == Some(Limit::Generator)
}

/// What its values say about the server is not known.
const UNDECIDED: char = '?';

fn row([rate, runs, held, p50, p99, value]: [&str; 6]) -> String {
    let columns = [Right(9), Right(5), Right(5), Right(9), Right(9), Left(0)];
    table::row(&columns, [rate, runs, held, p50, p99, value])
}

fn point_row(found: &Found, point: &CurvePoint) -> String {
    let time = |ns: Option<f64>| units::maybe(ns.map(whole));
    let first = point.values.first().copied().flatten();
    let value = first.map_or_else(|| "–".into(), |value| objectives::value(&found.slo[0], value));
    let mark = match point.holds {
        true => '✓',
        false if undecided(point) => UNDECIDED,
        false => '✗',
    };
    let whose = match point.limit.filter(|_| !point.holds) {
        Some(Limit::Server) => "  server",
        Some(Limit::Generator) => "  generator",
        None => "",
    };
    row([
        &units::rate(point.rate),
        &units::count(point.runs),
        &units::count(point.held),
        &time(point.p50_ns),
        &time(point.p99_ns),
        &format!("{mark} {value}{whose}"),
    ])
}

fn answer(found: &Found) -> String {
    let held = match found.found_rate {
        Some(rate) => format!("{} connections/s", units::rate(rate)),
        None => "no rate holds: not even the lowest one".into(),
    };
    let partial = if found.interrupted { ", as far as the search came: interrupted" } else { "" };
    held + partial
}

fn limit(found: &Found) -> Vec<String> {
    let text = match found.limit {
        Some(_) if found.max_reached => "not met: the highest rate allowed holds; raise --max",
        Some(Limit::Server) if found.found_rate.is_none() => {
            "the server's: it misses an objective at the lowest rate"
        }
        Some(Limit::Generator) if found.found_rate.is_none() => {
            "the generator's: it cannot offer the lowest rate as planned, which says nothing about \
             the server; give it CPUs of its own, or --threads"
        }
        Some(Limit::Server) => "the server's: above this rate it misses an objective",
        Some(Limit::Generator) => {
            "the generator's: above this rate it cannot offer the load as planned, which says \
             nothing about the server; give it CPUs of its own, or --threads"
        }
        None => return Vec::new(),
    };
    let mut lines = wrap(text, WIDTH - NAMES, "");
    let of_the_generator = found.limit == Some(Limit::Generator);
    let above = found.curve.iter().find(|point| !point.holds).filter(|_| of_the_generator);
    for reason in above.iter().flat_map(|point| &point.reasons) {
        lines.extend(wrap(&format!("! {reason}"), WIDTH - NAMES, "  "));
    }
    lines
}

/// The first objective's value over the rate, both logarithmic: ● holds, ○ does not, ? was not
/// offered.
fn curve(found: &Found, style: Style) -> Vec<String> {
    let known = |point: &CurvePoint| {
        let value = point.values.first().copied().flatten().filter(|value| *value > 0.0)?;
        let mark = match point.holds {
            true => '●',
            false if undecided(point) => UNDECIDED,
            false => '○',
        };
        Some((point.rate.log10(), value.log10(), mark))
    };
    let points: Vec<(f64, f64, char)> = found.curve.iter().filter_map(known).collect();
    let columns = WIDTH - MARGIN - 2;
    let (Some(x), Some(y)) =
        (range(points.iter().map(|it| it.0)), range(points.iter().map(|it| it.1)))
    else {
        return Vec::new();
    };
    let mut grid = vec![vec![' '; columns]; HEIGHT];
    for &(rate, value, mark) in &points {
        let (column, row) = (position(rate, x, columns), position(value, y, HEIGHT));
        grid[HEIGHT - 1 - row][column] = mark;
    }
    let label = |value: f64| objectives::value(&found.slo[0], 10f64.powf(value));
    let mut lines = vec![String::new(), style.dim(&format!("{} by rate", found.slo[0]))];
    for (row, cells) in grid.iter().enumerate() {
        let name = match row {
            0 => label(y.1),
            _ if row == HEIGHT - 1 => label(y.0),
            _ => String::new(),
        };
        let cells: String = cells.iter().collect();
        lines.push(format!("{name:>MARGIN$} │{cells}").trim_end().to_owned());
    }
    lines.push(format!("{:>MARGIN$} └{}", "", "─".repeat(columns)));
    let ends = [x.0, x.1].map(|end| format!("{}/s", units::rate(10f64.powf(end))));
    let gap = columns.saturating_sub(ends[0].chars().count());
    lines.push(format!("{:>MARGIN$}  {}{:>gap$}", "", ends[0], ends[1]));
    lines
}

/// From the lowest to the highest; `None` without values that differ.
fn range(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    (high > low).then_some((low, high))
}

fn position(value: f64, (low, high): (f64, f64), places: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "a terminal is not that wide")]
    let last = (places - 1) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "clamped to 0 and above")]
    let position = ((value - low) / (high - low) * last).round().clamp(0.0, last) as usize;
    position
}

fn whole(ns: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "durations are not negative")]
    let whole = ns.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::result::RunResult;

    fn point(rate: f64, ns: f64, holds: bool) -> CurvePoint {
        let limit = (!holds).then_some(Limit::Generator);
        let reasons = if holds { vec![] } else { vec!["generator_lag: late".into()] };
        let values = vec![Some(ns)];
        let (runs, held) = (3, if holds { 3 } else { 0 });
        CurvePoint { rate, runs, held, holds, values, limit, reasons, ..CurvePoint::default() }
    }

    fn knee(limit: Option<Limit>, max_reached: bool) -> Found {
        Found {
            found_rate: limit.map(|_| 1000.0),
            limit,
            max_reached,
            slo: vec!["accept_delay.p99<1ms".into()],
            curve: vec![
                point(100.0, 50_000.0, true),
                point(1000.0, 80_000.0, true),
                point(1040.0, 5e6, false),
            ],
            interrupted: limit.is_none(),
            tool: RunResult::default().tool,
            argv: Vec::new(),
        }
    }

    #[test]
    fn rate_limit_and_curve_are_shown() {
        let text = found(&knee(Some(Limit::Generator), false), Style::default());
        for part in [
            "    1,000     3     3         –         –  ✓ 80.0µs",
            "? 5.00ms  generator\n? the generator could not offer this rate as planned",
            "found         1,000 connections/s",
            "limit         the generator's",
            "! generator_lag: late",
            "   5.00ms │",
            "   50.0µs │●",
            "100/s",
            "1,040/s\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let server = found(&knee(Some(Limit::Server), false), Style::default());
        assert!(server.contains("limit         the server's"), "{server}");
        assert!(!text.contains('✗') && !text.contains('○'), "{text}");
        let open = found(&knee(Some(Limit::Generator), true), Style::default());
        assert!(open.contains("not met"), "{open}");
        let cut = found(&knee(None, false), Style::default());
        assert!(cut.contains("interrupted"), "{cut}");
        let mut missed = knee(Some(Limit::Server), false);
        missed.curve[2].limit = Some(Limit::Server);
        let lowest = |limit| {
            let found_rate = None;
            found(&Found { found_rate, ..knee(Some(limit), false) }, Style::default())
        };
        let none = lowest(Limit::Server);
        assert!(none.contains("it misses an objective at the lowest rate"), "{none}");
        assert!(lowest(Limit::Generator).contains("offer the lowest rate"));
        let missed = found(&missed, Style::default());
        assert!(missed.contains("✗ 5.00ms  server") && !missed.contains('?'), "{missed}");
    }
}
