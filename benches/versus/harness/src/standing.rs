//! What several rounds of one number come to.

use serde::Serialize;

/// Median, quartiles and extremes of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low_quartile: f64,
    pub(crate) high_quartile: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    /// Nothing if there is no finite value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            median: quantile(&sorted, 0.5),
            low_quartile: quantile(&sorted, 0.25),
            high_quartile: quantile(&sorted, 0.75),
            min,
            max,
            rounds: sorted.len(),
        })
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.low_quartile <= other.high_quartile && other.low_quartile <= self.high_quartile
    }
}

/// Between the two nearest of the sorted values, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

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
        let ratio = match self {
            Self::Lower => reference / value,
            Self::Higher => value / reference,
        };
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// The best of `all` by the median.
    pub(crate) fn best<T>(self, all: impl IntoIterator<Item = (T, Spread)>) -> Option<(T, Spread)> {
        all.into_iter().min_by(|(_, one), (_, other)| match self {
            Self::Lower => one.median.total_cmp(&other.median),
            Self::Higher => other.median.total_cmp(&one.median),
        })
    }
}

/// Differences below this share are not told apart, however narrow the spreads.
const LEVEL: f64 = 0.03;

/// Fewer rounds have no spread to speak of.
pub(crate) const FEWEST_ROUNDS: usize = 3;

/// How a candidate stands against another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    Ahead,
    Level,
    Behind,
}

impl Standing {
    /// Level unless the quartiles are apart and the medians differ by 3 %; nothing where there
    /// were too few rounds to say.
    pub(crate) fn of(one: &Spread, other: &Spread, better: Better) -> Option<Self> {
        if one.rounds.min(other.rounds) < FEWEST_ROUNDS {
            return None;
        }
        let ratio = better.times_as_good(one.median, other.median)?;
        let level = one.overlaps(other) || (ratio - 1.0).abs() < LEVEL;
        Some(match ratio > 1.0 {
            _ if level => Self::Level,
            true => Self::Ahead,
            false => Self::Behind,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Level => "level",
            Self::Behind => "**behind**",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.iter().copied()).expect("values")
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(spread(&[7.0]).median, 7.0);
    }

    #[test]
    fn quartiles_and_extremes() {
        let spread = spread(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((spread.low_quartile, spread.high_quartile), (2.0, 4.0));
        assert_eq!((spread.min, spread.max, spread.rounds), (1.0, 5.0, 5));
    }

    #[test]
    fn what_is_not_a_number_is_left_out() {
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(spread(&[f64::NAN, 2.0]).median, 2.0);
    }

    #[test]
    fn above_one_is_better_whichever_way() {
        assert_eq!(Better::Lower.times_as_good(10.0, 20.0), Some(2.0));
        assert_eq!(Better::Higher.times_as_good(10.0, 20.0), Some(0.5));
        assert_eq!(Better::Lower.times_as_good(0.0, 20.0), None);
    }

    #[test]
    fn the_best_is_the_lowest_or_the_highest() {
        let all = [("a", spread(&[1.0])), ("b", spread(&[2.0]))];
        assert_eq!(Better::Lower.best(all).map(|(name, _)| name), Some("a"));
        assert_eq!(Better::Higher.best(all).map(|(name, _)| name), Some("b"));
    }

    #[test]
    fn standing_needs_quartiles_apart_and_a_difference_that_counts() {
        let (low, high) = (spread(&[9.0, 10.0, 11.0]), spread(&[19.0, 20.0, 21.0]));
        assert_eq!(Standing::of(&low, &high, Better::Lower), Some(Standing::Ahead));
        assert_eq!(Standing::of(&low, &high, Better::Higher), Some(Standing::Behind));
        let wide = spread(&[2.0, 14.0, 20.0]);
        assert_eq!(Standing::of(&low, &wide, Better::Lower), Some(Standing::Level));
        let near = Standing::of(&spread(&[100.0; 3]), &spread(&[101.0; 3]), Better::Lower);
        assert_eq!(near, Some(Standing::Level));
        assert_eq!(Standing::of(&spread(&[1.0]), &spread(&[9.0]), Better::Lower), None);
    }
}
