//! How a candidate stands against another.

use loadgen::analyse::statistics::{Comparison, Direction, RatioInterval, Summary, Verdict};
use serde::Serialize;

/// Which way a number is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    /// How many times as good as `reference` is `value`: above 1 is better, whichever way.
    pub(crate) fn times_as_good(self, value: f64, reference: f64) -> Option<f64> {
        let ratio = self.oriented(value / reference);
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// Where the true [`Self::times_as_good`] is, from an interval of the values' ratio.
    pub(crate) fn interval(self, ratio: RatioInterval) -> RatioInterval {
        let [one, other] = [ratio.low, ratio.high].map(|end| self.oriented(end));
        RatioInterval { low: one.min(other), high: one.max(other) }
    }

    pub(crate) fn oriented(self, ratio: f64) -> f64 {
        match self {
            Self::Lower => 1.0 / ratio,
            Self::Higher => ratio,
        }
    }

    /// The best of `all` by the median.
    pub(crate) fn best<T>(
        self,
        all: impl IntoIterator<Item = (T, Summary)>,
    ) -> Option<(T, Summary)> {
        all.into_iter().min_by(|(_, one), (_, other)| match self {
            Self::Lower => one.median.total_cmp(&other.median),
            Self::Higher => other.median.total_cmp(&one.median),
        })
    }
}

/// What may be said of one candidate beside another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    Ahead,
    /// No difference was seen, and only one above this ratio would have been.
    Level {
        would_have_seen: f64,
    },
    Behind,
    /// It failed or lost connections: whatever the numbers say, it is not ahead.
    Failing,
}

impl Standing {
    /// From a comparison of one with the other, and whether the one served all that was asked of
    /// it. Nothing where there were too few rounds to say.
    pub(crate) fn of(comparison: &Comparison, better: Better, reliable: bool) -> Option<Self> {
        let standing = match (comparison.verdict, better) {
            (Verdict::TooFewRounds { .. }, _) => return None,
            (Verdict::NoDifferenceSeen { would_have_seen }, _) => Self::Level { would_have_seen },
            (Verdict::Different(Direction::Lower), Better::Lower) => Self::Ahead,
            (Verdict::Different(Direction::Higher), Better::Higher) => Self::Ahead,
            (Verdict::Different(_), _) => Self::Behind,
        };
        Some(if reliable || standing == Self::Behind { standing } else { Self::Failing })
    }

    pub(crate) fn words(self) -> String {
        match self {
            Self::Ahead => "ahead".to_owned(),
            Self::Level { would_have_seen } => format!("level (seen from {would_have_seen:.2})"),
            Self::Behind => "**behind**".to_owned(),
            Self::Failing => "**failing**".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use loadgen::analyse::statistics::compare_paired;

    use super::*;

    fn summary(value: f64) -> Summary {
        Summary::of([value]).expect("a value")
    }

    /// Of ten rounds beside ten that are twice as high.
    fn halved() -> Comparison {
        let pairs: Vec<(f64, f64)> = (0..10).map(|i| (10.0 + f64::from(i % 3), 22.0)).collect();
        compare_paired(&pairs, 0.0)
    }

    #[test]
    fn above_one_is_better_whichever_way() {
        assert_eq!(Better::Lower.times_as_good(10.0, 20.0), Some(2.0));
        assert_eq!(Better::Higher.times_as_good(10.0, 20.0), Some(0.5));
        assert_eq!(Better::Lower.times_as_good(0.0, 20.0), None);
        let interval = Better::Lower.interval(RatioInterval { low: 0.5, high: 2.0 });
        assert_eq!(interval, RatioInterval { low: 0.5, high: 2.0 });
    }

    #[test]
    fn the_best_is_the_lowest_or_the_highest() {
        let all = [("a", summary(1.0)), ("b", summary(2.0))];
        assert_eq!(Better::Lower.best(all).map(|(name, _)| name), Some("a"));
        assert_eq!(Better::Higher.best(all).map(|(name, _)| name), Some("b"));
    }

    #[test]
    fn ahead_is_the_better_side_of_a_difference() {
        assert_eq!(Standing::of(&halved(), Better::Lower, true), Some(Standing::Ahead));
        assert_eq!(Standing::of(&halved(), Better::Higher, true), Some(Standing::Behind));
        let few = compare_paired(&[(1.0, 9.0)], 0.0);
        assert_eq!(Standing::of(&few, Better::Lower, true), None);
    }

    #[test]
    fn who_loses_connections_is_not_ahead() {
        assert_eq!(Standing::of(&halved(), Better::Lower, false), Some(Standing::Failing));
        assert_eq!(Standing::of(&halved(), Better::Higher, false), Some(Standing::Behind));
    }
}
