//! The bootstrap: how far an estimate moves when rounds are drawn again from those there are.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::{approx, median, quantile};

/// Samples drawn per interval: the ends then move by some 4 % of its width from seed to seed.
const RESAMPLES: usize = 1000;
/// Always the same, so that a comparison repeats.
const SEED: u64 = 0x5EED;
/// The ends of the resampled estimates, and how many standard deviations a normal distribution
/// has between its middle and these.
const TAIL: f64 = 0.025;
const TAIL_DEVIATIONS: f64 = 1.959_964;
/// The normal quantile of 99.5 %, for a nominal level of 99 %.
const LEVEL_DEVIATIONS: f64 = 2.575_829;
/// More correlation than this cannot be told from a trend by so few rounds.
const CORRELATION_MAX: f64 = 0.7;

/// What an estimate is made of.
pub(super) trait Resample {
    /// The estimate of a logarithm of a ratio.
    fn estimate(&self) -> f64;
    /// As many rounds, drawn with replacement.
    fn resample(&self, random: &mut Pcg64) -> Self;
    /// Between consecutive rounds, -1 to 1.
    fn correlation(&self) -> f64;
}

/// Logarithms of the ratios of each round.
pub(super) struct Paired(pub(super) Vec<f64>);

/// Logarithms of the values of two samples.
pub(super) struct Unpaired(pub(super) Vec<f64>, pub(super) Vec<f64>);

/// Of a logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
    /// From the estimate to the farther end.
    pub(super) reach: f64,
}

/// The interval of an estimate from `rounds`, which are at least two.
pub(super) fn interval<S: Resample>(samples: &S, rounds: usize) -> Interval {
    let mut random = Pcg64::seed_from_u64(SEED);
    let mut drawn: Vec<f64> =
        (0..RESAMPLES).map(|_| samples.resample(&mut random).estimate()).collect();
    drawn.sort_by(f64::total_cmp);
    let estimate = samples.estimate();
    let widening = widening(rounds, samples.correlation());
    let [low, high] =
        [TAIL, 1.0 - TAIL].map(|share| widening * (quantile(&drawn, share) - estimate));
    Interval { low: estimate + low, high: estimate + high, reach: high.max(-low) }
}

/// How much wider than the resampled estimates the interval is.
///
/// Resampled rounds spread less than rounds do, by √((n-1)/n), and few rounds misjudge their own
/// spread: the t distribution answers for that. Consecutive rounds that resemble each other count
/// for fewer, by (1+r)/(1-r).
fn widening(rounds: usize, correlation: f64) -> f64 {
    let n = approx(rounds);
    let r = correlation.clamp(0.0, CORRELATION_MAX);
    (n / (n - 1.0) * (1.0 + r) / (1.0 - r)).sqrt() * student_t(n - 1.0) / TAIL_DEVIATIONS
}

/// The quantile of 99.5 % of Student's t by its expansion in 1/freedom: from 4 degrees on, 1 %
/// too low at most.
fn student_t(freedom: f64) -> f64 {
    let z = LEVEL_DEVIATIONS;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

impl Resample for Paired {
    /// The median of the averages of every two rounds, each with itself too.
    fn estimate(&self) -> f64 {
        let ratios = &self.0;
        let rests = (0..ratios.len()).map(|from| &ratios[from..]);
        let averages = rests.flat_map(|rest| rest.iter().map(|other| rest[0].midpoint(*other)));
        let mut averages: Vec<f64> = averages.collect();
        median(&mut averages)
    }

    fn resample(&self, random: &mut Pcg64) -> Self {
        Self(drawn_from(&self.0, random))
    }

    fn correlation(&self) -> f64 {
        serial_correlation(&self.0)
    }
}

impl Resample for Unpaired {
    /// The median of the differences between every value of one and every value of the other.
    fn estimate(&self) -> f64 {
        let Self(first, second) = self;
        let differences = first.iter().flat_map(|&a| second.iter().map(move |b| a - b));
        let mut differences: Vec<f64> = differences.collect();
        median(&mut differences)
    }

    fn resample(&self, random: &mut Pcg64) -> Self {
        Self(drawn_from(&self.0, random), drawn_from(&self.1, random))
    }

    fn correlation(&self) -> f64 {
        serial_correlation(&self.0).midpoint(serial_correlation(&self.1))
    }
}

fn drawn_from(values: &[f64], random: &mut Pcg64) -> Vec<f64> {
    values.iter().map(|_| values[random.random_range(0..values.len())]).collect()
}

/// The correlation of each value with the next; 0 where all are the same.
fn serial_correlation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / approx(values.len());
    let off: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let variance: f64 = off.iter().map(|it| it * it).sum();
    let shared: f64 = off.windows(2).map(|pair| pair[0] * pair[1]).sum();
    if variance > 0.0 { shared / variance } else { 0.0 }
}
