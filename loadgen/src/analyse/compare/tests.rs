use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::model::histogram::{Summary as Histogram, new_histogram};
use crate::model::watch::Watch;

/// A round of these delays, begun in this second.
fn round(place: usize, second: usize, delays: &[u64]) -> Found {
    let mut histogram = new_histogram();
    delays.iter().for_each(|&ns| histogram.saturating_record(ns));
    let result = RunResult {
        started_at: format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60),
        histograms: [("accept_delay".into(), Histogram::of(&histogram))].into(),
        ..RunResult::default()
    };
    Found { place: place.to_string(), result }
}

fn rounds(count: usize, mut delay: impl FnMut(usize) -> u64) -> Vec<Found> {
    (0..count).map(|at| round(at, 2 * at, &[delay(at)])).collect()
}

fn compared(a: &[Found], b: &[Found]) -> Comparison {
    let (a, b) = (Results { path: "a", found: a }, Results { path: "b", found: b });
    compare(a, b, Phase::AcceptDelay, &[Quantile::P50]).unwrap()
}

fn conclusion_of(comparison: &Comparison) -> Conclusion {
    comparison.quantiles[0].conclusion
}

#[test]
fn rounds_of_the_same_name_are_pairs() {
    // Rounds differ tenfold; within each round B takes a third longer.
    let delay = |at: usize| 1000 * 10u64.pow(u32::try_from(at % 3).unwrap());
    let (a, b) = (rounds(6, delay), rounds(6, |at| delay(at) * 4 / 3));
    let paired = compared(&a, &b);
    assert!(paired.paired && paired.interleaved);
    assert_eq!(conclusion_of(&paired), Conclusion::Different { b_is: Direction::Higher });
    let ratio = paired.quantiles[0].ratio.unwrap();
    assert!((1.32..1.35).contains(&ratio), "{ratio}");

    let renamed: Vec<Found> = b
        .iter()
        .map(|found| Found { place: format!("x{}", found.place), ..found.clone() })
        .collect();
    let unpaired = compared(&a, &renamed);
    assert!(!unpaired.paired);
    assert!(matches!(conclusion_of(&unpaired), Conclusion::NoDifferenceSeen { .. }));
}

#[test]
fn rounds_without_a_partner_are_left_out_and_counted() {
    let comparison = compared(&rounds(7, |_| 1000), &rounds(5, |_| 1000));
    assert_eq!((comparison.a.rounds, comparison.a.left_out), (5, 2));
    assert_eq!((comparison.b.rounds, comparison.b.left_out, comparison.b.invalid), (5, 0, 5));
}

#[test]
fn four_rounds_are_too_few() {
    let comparison = compared(&rounds(4, |_| 1000), &rounds(4, |_| 9000));
    assert_eq!(conclusion_of(&comparison), Conclusion::TooFewRounds { have: 4, need: 5 });
    assert_eq!(comparison.quantiles[0].interval, None);
    assert!((comparison.quantiles[0].ratio.unwrap() - 9.0).abs() < 0.01);
}

#[test]
fn sides_that_were_measured_one_after_the_other_are_told() {
    let later: Vec<Found> = (0..5).map(|at| round(at, 100 + at, &[1000])).collect();
    assert!(!compared(&rounds(5, |_| 1000), &later).interleaved);
}

#[test]
fn nothing_finer_than_the_brackets_of_diag_is_a_difference() {
    let with_brackets = |delay: u64, width: u64| {
        let mut histogram = new_histogram();
        histogram.saturating_record(width);
        let mut side = rounds(6, |_| delay);
        for found in &mut side {
            let brackets = Histogram::of(&histogram);
            found.result.histograms.insert("diag_resolution".into(), brackets);
        }
        side
    };
    let fine = compared(&with_brackets(20_000, 5_000), &with_brackets(30_000, 5_000));
    assert_eq!(conclusion_of(&fine), Conclusion::Different { b_is: Direction::Higher });
    let coarse = compared(&with_brackets(20_000, 5_000), &with_brackets(30_000, 12_000));
    assert!(matches!(conclusion_of(&coarse), Conclusion::NoDifferenceSeen { .. }), "{coarse:?}");
    assert!(coarse.quantiles[0].resolution_ns > 11_900.0);
}

#[test]
fn a_result_without_the_phase_is_an_error_that_names_it() {
    let (a, b) = (rounds(1, |_| 1000), rounds(1, |_| 1000));
    let (a, b) = (Results { path: "some/a", found: &a }, Results { path: "b", found: &b });
    let error = compare(a, b, Phase::EchoRtt, &[Quantile::P50]).unwrap_err().to_string();
    assert_eq!(error, "some/a/0 has no samples of echo_rtt: it has accept_delay");
}

/// Rounds as a busy machine gives them: exponential delays, and a level that varies by round.
fn noisy(count: usize, random: &mut Pcg64) -> Vec<Found> {
    let delays = |random: &mut Pcg64| -> Vec<u64> {
        let level = 20_000.0 * (1.0 + 0.3 * random.random::<f64>());
        #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
        #[expect(clippy::cast_sign_loss, reason = "delays are positive")]
        let delay = |random: &mut Pcg64| (level * -(1.0 - random.random::<f64>()).ln()) as u64 + 1;
        (0..200).map(|_| delay(random)).collect()
    };
    (0..count).map(|at| round(at, at, &delays(random))).collect()
}

#[test]
fn two_halves_of_one_distribution_are_called_different_in_at_most_5_percent_of_200_sets() {
    const SETS: usize = 200;
    let mut random = Pcg64::seed_from_u64(12);
    let mut called = [0; 4];
    for _ in 0..SETS {
        let set = noisy(10, &mut random);
        let half = |from: usize| -> Vec<Found> {
            let half = set.iter().skip(from).step_by(2).enumerate();
            half.map(|(at, it)| Found { place: at.to_string(), ..it.clone() }).collect()
        };
        let (a, mut b) = (half(0), half(1));
        for paired in [true, false] {
            if !paired {
                b.iter_mut().for_each(|found| found.place.push('b'));
            }
            let (a, b) = (Results { path: "a", found: &a }, Results { path: "b", found: &b });
            let quantiles = [Quantile::P50, Quantile::P99];
            let comparison = compare(a, b, Phase::AcceptDelay, &quantiles).unwrap();
            assert_eq!(comparison.paired, paired);
            for (at, quantile) in comparison.quantiles.iter().enumerate() {
                let different = matches!(quantile.conclusion, Conclusion::Different { .. });
                called[2 * usize::from(paired) + at] += usize::from(different);
            }
        }
    }
    assert!(called.iter().all(|called| called * 20 <= SETS), "{called:?} of {SETS}");
}

fn watched(mode: &str, resolution_ns: u64, delay: u64) -> Vec<Found> {
    let watch = Watch { mode: mode.into(), resolution_ns, ..Watch::default() };
    let mut found = rounds(6, |_| delay);
    for found in &mut found {
        found.result.kind = Kind::Watch;
        found.result.watch = Some(watch.clone());
    }
    found
}

#[test]
fn watches_differ_by_no_less_than_they_can_tell() {
    let (fast, slow) = (watched("fifo", 1_000_000, 600_000), watched("fifo", 1_000_000, 900_000));
    let told = conclusion_of(&compared(&fast, &slow));
    assert!(matches!(told, Conclusion::NoDifferenceSeen { .. }), "{told:?}");
    let slower = watched("fifo", 1_000_000, 9_000_000);
    let told = conclusion_of(&compared(&fast, &slower));
    assert_eq!(told, Conclusion::Different { b_is: Direction::Higher });
}

#[test]
fn a_watch_is_compared_with_its_like_only() {
    let quantiles = &[Quantile::P50];
    let refused = |a: &[Found], b: &[Found]| {
        let (a, b) = (Results { path: "a", found: a }, Results { path: "b", found: b });
        compare(a, b, Phase::AcceptDelay, quantiles).unwrap_err().to_string()
    };
    let watch = watched("fifo", 1_000_000, 9_000_000);
    let said = refused(&rounds(6, |_| 1000), &watch);
    assert!(said.starts_with("a/0 has the delays of its own connections, b/0 has all waits"));
    let said = refused(&watch, &watched("sampled", 1_000_000, 9_000_000));
    assert!(said.contains("of the same mode"), "{said}");
}
