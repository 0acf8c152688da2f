//! The report of a comparison.

use super::{NAMES, Style, WIDTH, entry, wrap};
use crate::model::comparison::{Conclusion, QuantileComparison};
use crate::model::result::RunResult;
use crate::render::comparison::{conclusion, notes, numbers, side};
use crate::render::table::{
    self,
    Column::{Left, Right},
};

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(comparison) = &result.comparison else { return Vec::new() };
    let title = format!("loadgen {} compare: {}", result.tool.version, comparison.phase);
    let mut lines = vec![style.bold(&title)];
    lines.extend(entry("A", vec![side(&comparison.a)]));
    lines.extend(entry("B", vec![side(&comparison.b)]));
    lines.push(String::new());
    let header = row("", ["A", "B", "B ÷ A", "99 % interval"].map(str::to_owned));
    lines.push(style.bold(header.trim_end()));
    lines.extend(comparison.quantiles.iter().map(|of| row(&of.quantile, numbers(of))));
    lines.push(String::new());
    for quantile in &comparison.quantiles {
        lines.extend(concluded(quantile, style));
    }
    for note in notes(comparison) {
        lines.extend(wrap(&format!("! {note}"), WIDTH, "  "));
    }
    lines
}

fn row(name: &str, [a, b, ratio, interval]: [String; 4]) -> String {
    let columns = [Left(8), Right(9), Right(9), Right(8), Left(0)];
    table::row(&columns, [name, &a, &b, &ratio, &interval])
}

fn concluded(of: &QuantileComparison, style: Style) -> Vec<String> {
    let mut lines = wrap(&conclusion(of), WIDTH - NAMES, "");
    if matches!(of.conclusion, Conclusion::Different { .. }) {
        lines.iter_mut().for_each(|line| *line = style.bold(line));
    }
    entry(&of.quantile, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::comparison::{Comparison, Direction, RatioInterval, Side};
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
