//! The report of a comparison.

use super::{Style, WIDTH, entry, wrap};
use crate::model::comparison::{Comparison, Conclusion, Direction, QuantileComparison, Side};
use crate::model::quantile::Quantile;
use crate::model::result::RunResult;
use crate::render::units;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(comparison) = &result.comparison else { return Vec::new() };
    let title = format!("loadgen {} compare: {}", result.tool.version, comparison.phase);
    let mut lines = vec![style.bold(&title)];
    lines.extend(entry("A", vec![side(&comparison.a)]));
    lines.extend(entry("B", vec![side(&comparison.b)]));
    lines.push(String::new());
    let header = row(["", "A", "B", "B ÷ A", "99 % interval"]);
    lines.push(style.bold(header.trim_end()));
    lines.extend(comparison.quantiles.iter().map(numbers));
    lines.push(String::new());
    for quantile in &comparison.quantiles {
        lines.extend(entry(&quantile.quantile, vec![conclusion(quantile, style)]));
    }
    for note in notes(comparison) {
        lines.extend(wrap(&format!("! {note}"), WIDTH, "  "));
    }
    lines
}

fn side(side: &Side) -> String {
    let mut text = format!("{}, {}", side.path, units::plural(side.rounds, "round"));
    if side.invalid > 0 {
        text += &format!(", {} INVALID", units::count(side.invalid));
    }
    if side.left_out > 0 {
        text += &format!(", {} more without a partner left out", units::count(side.left_out));
    }
    text
}

fn row([name, a, b, ratio, interval]: [&str; 5]) -> String {
    format!("{name:<8} {a:>9} {b:>9} {ratio:>8}  {interval}")
}

fn numbers(of: &QuantileComparison) -> String {
    let ratio = of.ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.3}"));
    let interval = of.interval.map(|it| format!("{:.3} to {:.3}", it.low, it.high));
    row([
        &of.quantile,
        &units::duration(whole(of.a_median_ns)),
        &units::duration(whole(of.b_median_ns)),
        &ratio,
        &interval.unwrap_or_else(|| "–".into()),
    ])
}

fn conclusion(of: &QuantileComparison, style: Style) -> String {
    match of.conclusion {
        Conclusion::Different { b_is } => {
            let direction = match b_is {
                Direction::Lower => "lower",
                Direction::Higher => "higher",
            };
            style.bold(&format!("different: B is {direction}"))
        }
        Conclusion::NoDifferenceSeen { would_have_seen } => {
            let percent = 100.0 * (would_have_seen - 1.0);
            format!("no difference seen (would have seen ≥ {} %)", three_digits(percent))
        }
        Conclusion::TooFewRounds { have, need } => {
            format!("too few rounds: {have} of the {need} that it takes to tell from chance")
        }
    }
}

fn three_digits(percent: f64) -> String {
    let digits = if percent < 10.0 { 1 } else { 0 };
    format!("{percent:.digits$}")
}

/// What limits the conclusions.
fn notes(of: &Comparison) -> Vec<String> {
    let mut notes = Vec::new();
    let rounds = of.a.rounds.max(of.b.rounds);
    if !of.paired && rounds > 1 {
        notes.push(
            "no round of A is named as one of B: compared as two samples, not by round".into(),
        );
    }
    if !of.interleaved && rounds > 1 {
        let note = "one side was measured before the other began: whatever else changed between \
                    them counts as a difference; loadgen sweep takes turns";
        notes.push(note.into());
    }
    if of.a.invalid + of.b.invalid > 0 {
        notes.push("rounds that are INVALID were compared too: see their own reports".into());
    }
    notes.extend(of.quantiles.iter().filter_map(finest));
    notes.extend(of.quantiles.iter().filter_map(few_samples));
    notes
}

/// The observer's resolution, where it is more than the histogram's own.
fn finest(of: &QuantileComparison) -> Option<String> {
    let width = 2e-3 * of.a_median_ns.max(of.b_median_ns);
    (of.resolution_ns > width).then(|| {
        let resolution = units::duration(whole(of.resolution_ns));
        format!("{}: accepts were seen to within {resolution}; less is no difference", of.quantile)
    })
}

fn few_samples(of: &QuantileComparison) -> Option<String> {
    let quantile: Quantile = of.quantile.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "it is compared with small numbers")]
    let few = (of.samples_min as f64) < quantile.samples_needed();
    let samples = units::plural(of.samples_min, "sample");
    few.then(|| format!("{quantile} of a round with {samples} is one of its extremes"))
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
    use crate::model::comparison::RatioInterval;
    use crate::model::result::Kind;

    fn quantile(name: &str, conclusion: Conclusion) -> QuantileComparison {
        QuantileComparison {
            quantile: name.into(),
            a_median_ns: 40_000.0,
            b_median_ns: 52_000.0,
            ratio: Some(1.3),
            interval: Some(RatioInterval { low: 1.2, high: 1.41 }),
            resolution_ns: 9_000.0,
            samples_min: 500,
            conclusion,
        }
    }

    fn report(comparison: Comparison) -> String {
        let result = RunResult {
            kind: Kind::Comparison,
            comparison: Some(comparison),
            ..RunResult::default()
        };
        lines(&result, Style::default()).join("\n")
    }

    #[test]
    fn each_conclusion_has_its_words_and_each_limit_its_note() {
        let side = |path: &str| Side { path: path.into(), rounds: 5, left_out: 1, invalid: 2 };
        let text = report(Comparison {
            phase: "accept_delay".into(),
            a: side("x"),
            b: side("y"),
            paired: false,
            interleaved: false,
            quantiles: vec![
                quantile("p50", Conclusion::Different { b_is: Direction::Higher }),
                quantile("p99", Conclusion::NoDifferenceSeen { would_have_seen: 1.31 }),
                quantile("p99.9", Conclusion::TooFewRounds { have: 4, need: 5 }),
            ],
        });
        for part in [
            "A             x, 5 rounds, 2 INVALID, 1 more without a partner left out",
            "p50         40.0µs    52.0µs    1.300  1.200 to 1.410",
            "p50           different: B is higher",
            "no difference seen (would have seen ≥ 31 %)",
            "too few rounds: 4 of the 5",
            "compared as two samples",
            "one side was measured before",
            "p99: accepts were seen to within 9.00µs",
            "p99.9 of a round with 500 samples",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
