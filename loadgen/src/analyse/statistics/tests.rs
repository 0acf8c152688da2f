use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;

/// Logarithms of what a round measured, both sides.
type Rounds = Vec<(f64, f64)>;

/// Noise of rounds in which both sides are the same.
#[derive(Clone, Copy, Debug)]
enum Noise {
    /// 5 % of the value, normal.
    Normal,
    /// A factor of about 1.6 either way.
    LogNormal,
    /// Pareto with an infinite variance.
    HeavyTailed,
    /// 5 %, and ten times the value in 15 % of the runs.
    Spikes,
    /// Consecutive runs resemble each other; the sides take turns, and turns at being first.
    CorrelatedInTime,
    /// Consecutive rounds of a side resemble each other; the sides have nothing in common.
    CorrelatedBySide,
}

const ALL: [Noise; 6] = [
    Noise::Normal,
    Noise::LogNormal,
    Noise::HeavyTailed,
    Noise::Spikes,
    Noise::CorrelatedInTime,
    Noise::CorrelatedBySide,
];
const COUNTS: [usize; 4] = [5, 7, 10, 20];

fn normal(random: &mut Pcg64) -> f64 {
    // Box–Muller; 1 - x because the logarithm of 0 is infinite.
    let (radius, angle) = (1.0 - random.random::<f64>(), random.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Standard normal values of which each has this correlation with the next.
fn correlated(count: usize, correlation: f64, random: &mut Pcg64) -> Vec<f64> {
    let fresh = (1.0 - correlation * correlation).sqrt();
    let mut state = normal(random);
    let next = || {
        let now = state;
        state = correlation * state + fresh * normal(random);
        now
    };
    std::iter::repeat_with(next).take(count).collect()
}

impl Noise {
    fn value(self, random: &mut Pcg64) -> f64 {
        match self {
            Self::LogNormal => (0.5 * normal(random)).exp(),
            Self::HeavyTailed => (1.0 - random.random::<f64>()).powf(-1.0 / 1.2),
            Self::Spikes if random.random::<f64>() < 0.15 => 10.0,
            _ => 1.0 + 0.05 * normal(random),
        }
    }

    fn rounds(self, count: usize, random: &mut Pcg64) -> Rounds {
        let scaled = |noise: &f64| (0.1 * noise).exp();
        match self {
            Self::CorrelatedInTime => {
                let runs: Vec<f64> =
                    correlated(2 * count, 0.5, random).iter().map(scaled).collect();
                let turn = |(round, pair): (usize, &[f64])| match round.is_multiple_of(2) {
                    true => (pair[0], pair[1]),
                    false => (pair[1], pair[0]),
                };
                runs.chunks(2).enumerate().map(turn).collect()
            }
            Self::CorrelatedBySide => {
                let mut side = || correlated(count, 0.5, random);
                let (first, second) = (side(), side());
                first.iter().map(scaled).zip(second.iter().map(scaled)).collect()
            }
            _ => (0..count).map(|_| (self.value(random), self.value(random))).collect(),
        }
    }
}

fn unpaired(rounds: &Rounds) -> Comparison {
    let (first, second): (Vec<f64>, Vec<f64>) = rounds.iter().copied().unzip();
    compare_unpaired(&first, &second, 0.0)
}

/// The share of `sets` simulated comparisons that call a difference, paired and unpaired.
fn called_different(noise: Noise, count: usize, ratio: f64, sets: usize) -> [f64; 2] {
    let mut random = Pcg64::seed_from_u64(count as u64);
    let mut called = [0, 0];
    for _ in 0..sets {
        let mut rounds = noise.rounds(count, &mut random);
        rounds.iter_mut().for_each(|(first, _)| *first *= ratio);
        let verdicts = [compare_paired(&rounds, 0.0), unpaired(&rounds)].map(|it| it.verdict);
        for (called, verdict) in called.iter_mut().zip(verdicts) {
            *called += usize::from(matches!(verdict, Verdict::Different(_)));
        }
    }
    called.map(|called| approx(called) / approx(sets))
}

/// How many sets are simulated: `STATISTICS_SETS=10000` for the figures of the documentation.
fn sets(usual: usize) -> usize {
    std::env::var("STATISTICS_SETS").map_or(usual, |sets| sets.parse().expect("a number"))
}

fn assert_rarely_called_different(noise: Noise, counts: &[usize], allowed: [f64; 2]) {
    for &count in counts {
        let shares = called_different(noise, count, 1.0, sets(400));
        let held = shares.iter().zip(allowed).all(|(share, allowed)| *share <= allowed);
        assert!(held, "{noise:?}, {count} rounds: {shares:?}");
    }
}

#[test]
fn one_distribution_is_rarely_called_two() {
    assert_rarely_called_different(Noise::Normal, &[5, 7, 20], [0.05; 2]);
}

#[test]
fn whatever_the_shape_of_the_noise() {
    for noise in [Noise::LogNormal, Noise::HeavyTailed, Noise::Spikes] {
        assert_rarely_called_different(noise, &[5, 10], [0.05; 2]);
    }
}

/// Pairs promise nothing where the sides drift apart, each by itself: 6 % were measured there.
#[test]
fn even_where_rounds_resemble_their_neighbours() {
    assert_rarely_called_different(Noise::CorrelatedInTime, &[5, 10], [0.05; 2]);
    assert_rarely_called_different(Noise::CorrelatedBySide, &[5, 10], [0.08, 0.05]);
}

#[test]
fn a_difference_of_30_percent_is_called_from_five_rounds_on() {
    for count in 5..=7 {
        let shares = called_different(Noise::Normal, count, 1.3, sets(200));
        assert!(shares.iter().all(|share| *share >= 0.9), "{count} rounds: {shares:?}");
    }
}

/// Prints the table of the module's documentation, and how often a real difference is called.
#[test]
fn rates() {
    println!("//! | noise | rounds | paired | unpaired |\n//! |---|---:|---:|---:|");
    for noise in ALL {
        for count in COUNTS {
            let [paired, unpaired] = called_different(noise, count, 1.0, sets(10));
            let (paired, unpaired) = (100.0 * paired, 100.0 * unpaired);
            println!("//! | {noise:?} | {count} | {paired:.1} % | {unpaired:.1} % |");
        }
    }
    for count in COUNTS {
        let [paired, unpaired] = called_different(Noise::Normal, count, 1.3, sets(10));
        println!("1.3 times, {count}: {:.1} % and {:.1} %", 100.0 * paired, 100.0 * unpaired);
    }
}

/// Five rounds of two sides with this ratio between them and some noise.
fn five(ratio: f64) -> Rounds {
    let noise = [(1.0, 1.03), (1.02, 0.98), (0.97, 1.0), (1.01, 1.02), (1.0, 0.99)];
    noise.map(|(first, second)| (100.0 * ratio * first, 100.0 * second)).to_vec()
}

fn would_have_seen(comparison: &Comparison) -> f64 {
    match comparison.verdict {
        Verdict::NoDifferenceSeen { would_have_seen } => would_have_seen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_direction_is_that_of_the_first() {
    let verdict = |ratio| compare_paired(&five(ratio), 0.0).verdict;
    assert_eq!(verdict(2.0), Verdict::Different(Direction::Higher));
    assert_eq!(verdict(0.5), Verdict::Different(Direction::Lower));
    assert_eq!(unpaired(&five(2.0)).verdict, Verdict::Different(Direction::Higher));
}

#[test]
fn the_interval_holds_the_estimate() {
    for comparison in [compare_paired(&five(1.5), 0.0), unpaired(&five(1.5))] {
        let (ratio, interval) = (comparison.ratio.unwrap(), comparison.interval.unwrap());
        assert!((1.45..1.55).contains(&ratio), "{comparison:?}");
        assert!(interval.low < ratio && ratio < interval.high, "{comparison:?}");
    }
}

#[test]
fn what_would_have_been_seen_is_seen() {
    let level = compare_paired(&five(1.0), 0.0);
    let needed = would_have_seen(&level) / level.ratio.unwrap();
    let verdict = |ratio| compare_paired(&five(ratio), 0.0).verdict;
    assert_eq!(verdict(needed * 1.001), Verdict::Different(Direction::Higher));
}

#[test]
fn four_rounds_are_too_few_and_none_has_no_ratio() {
    let four = compare_paired(&five(2.0)[..4], 0.0);
    assert_eq!(four.verdict, Verdict::TooFewRounds { have: 4, need: 5 });
    assert!(four.ratio.is_some() && four.interval.is_none());
    let none = compare_unpaired(&[], &[1.0], 0.0);
    assert_eq!((none.rounds, none.ratio), (0, None));
    assert_eq!(none.verdict, Verdict::TooFewRounds { have: 0, need: 5 });
}

#[test]
fn pairs_without_a_ratio_are_left_out() {
    let mut rounds = five(2.0);
    rounds.extend([(0.0, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (-1.0, 1.0)]);
    assert_eq!(compare_paired(&rounds, 0.0), compare_paired(&five(2.0), 0.0));
}

#[test]
fn nothing_finer_than_the_resolution_is_called_different() {
    assert!(matches!(compare_paired(&five(1.5), 49.0).verdict, Verdict::Different(_)));
    let coarse = compare_paired(&five(1.5), 51.0);
    assert!((would_have_seen(&coarse) - 1.51).abs() < 0.01, "{coarse:?}");
}

#[test]
fn equal_rounds_do_not_differ() {
    let comparison = compare_paired(&[(3.0, 3.0); 6], 0.0);
    assert_eq!((comparison.ratio, would_have_seen(&comparison)), (Some(1.0), 1.0));
}

#[test]
fn medians_quartiles_and_extremes() {
    let summary = Summary::of([5.0, 1.0, f64::NAN, 4.0, 2.0, 3.0]).unwrap();
    assert_eq!((summary.low_quartile, summary.median, summary.high_quartile), (2.0, 3.0, 4.0));
    assert_eq!((summary.min, summary.max, summary.count), (1.0, 5.0, 5));
    assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    assert_eq!(Summary::of([f64::INFINITY]), None);
    assert_eq!([median(&mut [3.0, 1.0, 2.0]), median(&mut [4.0, 1.0, 2.0, 3.0])], [2.0, 2.5]);
}
