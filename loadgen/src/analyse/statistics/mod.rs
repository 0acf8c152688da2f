//! Do two samples differ, by how much, and how small a difference would have been seen?
//!
//! A sample holds one number per round, for example the p99 of one run. Rounds are few and their
//! noise has no known shape: outliers, slow minutes, heavy tails. So two samples are compared by
//! the ratio of their values, through
//!
//! - the *Hodges–Lehmann estimate* of the ratio's logarithm: the median of all averages of two
//!   rounds. It resists outliers as a median does and wastes little where there are none;
//! - a *bootstrap* interval of it, widened for the number of rounds and for correlation between
//!   consecutive ones. The plain percentile bootstrap of 5 rounds misses the true ratio in 16 % of
//!   cases, because resampled rounds spread less than rounds do.
//!
//! [`compare_paired`] is for rounds in which both were measured one after the other: what slows a
//! whole round cancels. [`compare_unpaired`] is for samples that were taken apart.
//!
//! # False positives
//! How often two samples of one distribution are called different, in percent, paired and
//! unpaired, of 10,000 simulated comparisons each:
//!
//! | noise | 5 rounds | 7 | 10 | 20 |
//! |---|---:|---:|---:|---:|
//! | 5 %, normal | 1.1, 0.2 | 0.4, 0.2 | 0.7, 0.3 | 0.6, 0.4 |
//! | a factor of 1.6, log-normal | 1.0, 0.2 | 0.4, 0.2 | 0.7, 0.3 | 0.7, 0.4 |
//! | heavy-tailed, infinite variance | 0.7, 0.2 | 0.4, 0.2 | 0.5, 0.2 | 0.7, 0.4 |
//! | tenfold in 15 % of the runs | 0.4, 0.2 | 0.2, 0.1 | 0.2, 0.1 | 0.3, 0.4 |
//! | correlated in time | 1.5, 0.1 | 0.8, 0.1 | 1.0, 0.1 | 1.0, 0.0 |
//! | correlated by side | 5.9, 3.1 | 5.1, 3.7 | 5.8, 3.9 | 4.7, 3.0 |
//!
//! "In time" means a correlation of 0.5 between one run and the next, where the sides take turns at
//! being first; "by side" one of 0.5 between consecutive rounds of each side and none between the
//! sides, which rounds of both do not have: that is the limit of what the widening answers for.
//! A real ratio of 1.3 in 5 % of noise is called different in 91 % of cases at 5 rounds and in
//! 98 % at 7. The test `rates` prints these numbers
//! anew with `STATISTICS_SETS=10000` and `--nocapture`.

mod bootstrap;

use bootstrap::Interval;

/// With fewer rounds nothing is called different: five that all point the same way are what chance
/// does in one of sixteen cases, so that fewer could not be told from it by any method.
pub const ROUNDS_NEEDED: usize = 5;

/// Two samples side by side. The ratio is of the first to the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Rounds that were compared; of unpaired samples the smaller number.
    pub rounds: usize,
    /// The estimate; `None` without a round.
    pub ratio: Option<f64>,
    /// Where the true ratio is; `None` if there are too few rounds to say.
    pub interval: Option<RatioInterval>,
    /// What may be concluded.
    pub verdict: Verdict,
}

/// The bootstrap interval of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    /// Its lower end, above 0.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a comparison may conclude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The interval excludes 1, and the difference is larger than the resolution.
    Different(Direction),
    /// Too small a difference, or none.
    NoDifferenceSeen {
        /// The smallest ratio above 1 that would have been called different, either way round.
        would_have_seen: f64,
    },
    /// There are not enough rounds to tell a difference from chance.
    TooFewRounds {
        /// Rounds that were compared.
        have: usize,
        /// [`ROUNDS_NEEDED`].
        need: usize,
    },
}

/// Where the first sample lies beside the second. Whether lower is better, the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Its values are the lower ones.
    Lower,
    /// Its values are the higher ones.
    Higher,
}

/// Compares values of the same rounds, first with second. Both are positive and in the order in
/// which they were measured; a pair with another number in it is left out.
///
/// A difference of the medians that is not above `resolution`, in the unit of the values, is not
/// called one. Deterministic: the same pairs give the same result.
#[must_use]
pub fn compare_paired(pairs: &[(f64, f64)], resolution: f64) -> Comparison {
    let usable = pairs.iter().copied().filter(|(a, b)| is_usable(*a) && is_usable(*b));
    let (first, second): (Vec<f64>, Vec<f64>) = usable.unzip();
    let ratios: Vec<f64> = first.iter().zip(&second).map(|(a, b)| (a / b).ln()).collect();
    let resolved = Resolved::of(&first, &second, resolution);
    compare(ratios.len(), &resolved, &bootstrap::Paired(ratios))
}

/// Compares samples that were not taken in common rounds, first with second. As
/// [`compare_paired`]; the numbers of values may differ.
///
/// The cost grows with the product of both numbers: these are for summaries of rounds, not for
/// single connections.
#[must_use]
pub fn compare_unpaired(first: &[f64], second: &[f64], resolution: f64) -> Comparison {
    let usable = |values: &[f64]| -> Vec<f64> {
        values.iter().copied().filter(|value| is_usable(*value)).collect()
    };
    let (first, second) = (usable(first), usable(second));
    let resolved = Resolved::of(&first, &second, resolution);
    let logs = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value.ln()).collect() };
    let samples = bootstrap::Unpaired(logs(&first), logs(&second));
    compare(first.len().min(second.len()), &resolved, &samples)
}

/// Has a logarithm.
fn is_usable(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn compare(rounds: usize, resolved: &Resolved, samples: &impl bootstrap::Resample) -> Comparison {
    let estimate = (rounds > 0).then(|| samples.estimate());
    let interval = (rounds >= ROUNDS_NEEDED).then(|| bootstrap::interval(samples, rounds));
    Comparison {
        rounds,
        ratio: estimate.map(f64::exp),
        interval: interval.map(|it| RatioInterval { low: it.low.exp(), high: it.high.exp() }),
        verdict: interval
            .map_or(Verdict::TooFewRounds { have: rounds, need: ROUNDS_NEEDED }, |interval| {
                resolved.verdict(interval)
            }),
    }
}

/// What the observer can tell apart at all.
struct Resolved {
    /// The difference of the medians is above the resolution.
    difference: bool,
    /// The smallest ratio that the resolution lets through.
    ratio: f64,
}

impl Resolved {
    fn of(first: &[f64], second: &[f64], resolution: f64) -> Self {
        let [first, second] = [first, second].map(|values| Summary::of(values.iter().copied()));
        let medians = first.zip(second).map(|(a, b)| (a.median, b.median));
        let Some((a, b)) = medians else { return Self { difference: false, ratio: 1.0 } };
        Self { difference: (a - b).abs() > resolution, ratio: 1.0 + resolution / a.min(b) }
    }

    fn verdict(&self, interval: Interval) -> Verdict {
        let direction = match (interval.low > 0.0, interval.high < 0.0) {
            (true, _) => Some(Direction::Higher),
            (_, true) => Some(Direction::Lower),
            _ => None,
        };
        let would_have_seen = interval.reach.exp().max(self.ratio);
        direction
            .filter(|_| self.difference)
            .map_or(Verdict::NoDifferenceSeen { would_have_seen }, Verdict::Different)
    }
}

/// Median, quartiles and extremes of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Half of the values are not above it.
    pub median: f64,
    /// A quarter of the values is not above it.
    pub low_quartile: f64,
    /// Three quarters of the values are not above it.
    pub high_quartile: f64,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Summary {
    /// `None` if there is no finite value; others are left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let [low_quartile, median, high_quartile] =
            [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        Some(Self { median, low_quartile, high_quartile, min, max, count: sorted.len() })
    }
}

/// Between the two nearest of the ascending values, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * approx(sorted.len() - 1);
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
    let [below, above] = [position.floor() as usize, position.ceil() as usize];
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// The median of values in any order, which it rearranges. There is at least one.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match below.iter().copied().max_by(f64::total_cmp) {
        Some(lower) if values.len().is_multiple_of(2) => lower.midpoint(upper),
        _ => upper,
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 rounds")]
fn approx(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
