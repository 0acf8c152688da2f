//! A comparison in words, for the terminal and the page.

use super::units;
use crate::model::comparison::{Comparison, Conclusion, Direction, QuantileComparison, Side};
use crate::model::quantile::Quantile;

/// One side: where it was found and what of it was compared.
pub(super) fn side(side: &Side) -> String {
    let mut text = format!("{}, {}", side.path, units::plural(side.rounds, "round"));
    if side.invalid > 0 {
        text += &format!(", {} INVALID", units::count(side.invalid));
    }
    if side.left_out > 0 {
        text += &format!(", {} more without a partner left out", units::count(side.left_out));
    }
    text
}

/// Both medians, their ratio and its interval.
pub(super) fn numbers(of: &QuantileComparison) -> [String; 4] {
    let interval = of.interval.map(|it| format!("{} to {}", ratio(it.low), ratio(it.high)));
    [
        units::duration(whole(of.a_median_ns)),
        units::duration(whole(of.b_median_ns)),
        of.ratio.map_or_else(|| "–".into(), ratio),
        interval.unwrap_or_else(|| "–".into()),
    ]
}

/// Digits beyond the thousandth of a ratio are noise, and so are those of a large one.
fn ratio(ratio: f64) -> String {
    match ratio {
        100.0.. => units::count(whole(ratio)),
        10.0.. => format!("{ratio:.1}"),
        _ => format!("{ratio:.3}"),
    }
}

/// What may be concluded about one quantile.
pub(super) fn conclusion(of: &QuantileComparison) -> String {
    match of.conclusion {
        Conclusion::Different { b_is } => {
            let direction = match b_is {
                Direction::Lower => "lower",
                Direction::Higher => "higher",
            };
            format!("different: B is {direction}")
        }
        Conclusion::NoDifferenceSeen { would_have_seen } => not_seen(would_have_seen),
        Conclusion::TooFewRounds { have, need } => {
            format!("too few rounds: {have} of the {need} that it takes to tell from chance")
        }
    }
}

/// A percentage that nobody can picture is a factor, and one that nobody would have cared to look
/// for says that the rounds are no measurement of this quantile.
fn not_seen(would_have_seen: f64) -> String {
    let percent = 100.0 * (would_have_seen - 1.0);
    match would_have_seen {
        NOTHING_SEEN.. => "no difference seen, and hardly any would have been: the rounds differ \
                           by more than a factor of 10 among themselves (more rounds, or a \
                           quieter machine)"
            .into(),
        2.0.. => format!("no difference seen (would have seen a factor of {would_have_seen:.1})"),
        1.1.. => format!("no difference seen (would have seen ≥ {percent:.0} %)"),
        _ => format!("no difference seen (would have seen ≥ {percent:.1} %)"),
    }
}

/// A comparison that would not have seen this factor has seen nothing.
const NOTHING_SEEN: f64 = 10.0;

/// What limits the conclusions.
pub(super) fn notes(of: &Comparison) -> Vec<String> {
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
    notes.extend(of.quantiles.iter().filter(|_| of.paired).filter_map(other_way));
    notes.extend(of.quantiles.iter().filter_map(finest));
    notes.extend(of.quantiles.iter().filter_map(few_samples));
    notes
}

/// The ratio of most rounds can be above 1 and that of the medians below.
fn other_way(of: &QuantileComparison) -> Option<String> {
    let medians = of.b_median_ns / of.a_median_ns;
    let opposed = of.ratio.is_some_and(|ratio| (ratio > 1.0) != (medians > 1.0));
    (opposed && (medians - 1.0).abs() > f64::EPSILON).then(|| {
        let name = &of.quantile;
        format!("{name}: the ratio is what B and A differ by within a round, not of the medians")
    })
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

fn whole(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "times and ratios are not negative")]
    let whole = number.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_have_been_seen_is_told_in_a_way_that_can_be_pictured() {
        assert_eq!(not_seen(1.042), "no difference seen (would have seen ≥ 4.2 %)");
        assert_eq!(not_seen(1.31), "no difference seen (would have seen ≥ 31 %)");
        assert_eq!(not_seen(3.12), "no difference seen (would have seen a factor of 3.1)");
        for factor in [10.0, 2579.61, f64::INFINITY] {
            let said = not_seen(factor);
            assert!(said.contains("differ by more than a factor of 10"), "{said}");
            assert!(!said.contains('%'), "{said}");
        }
    }

    #[test]
    fn a_ratio_that_contradicts_the_medians_is_explained() {
        let of = |ratio| QuantileComparison {
            quantile: "p99".into(),
            a_median_ns: 2_000_000.0,
            b_median_ns: 1_100_000.0,
            ratio,
            interval: None,
            resolution_ns: 0.0,
            samples_min: 1_000,
            conclusion: Conclusion::TooFewRounds { have: 1, need: 5 },
        };
        assert!(other_way(&of(Some(2.0))).is_some_and(|note| note.contains("within a round")));
        assert_eq!((other_way(&of(Some(0.5))), other_way(&of(None))), (None, None));
    }

    #[test]
    fn a_ratio_has_the_digits_that_mean_something() {
        assert_eq!([0.0921, 1.0, 12.34, 2390.859].map(ratio), ["0.092", "1.000", "12.3", "2,391"]);
    }
}
