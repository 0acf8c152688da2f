use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::model::outcome::Outcomes;
use crate::model::verdict::{Finding, Slo, Verdict};

const SERVER: Trial = Trial::Misses(Limit::Server);

/// Searches with trials that hold with this probability, and counts them.
fn search((min, max): (f64, f64), seed: u64, probability: impl Fn(f64) -> f64) -> (Answer, usize) {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut search = Search::new(min, max);
    for trials in 0..200 {
        match search.next() {
            Step::Done(answer) => return (answer, trials),
            Step::Try(rate) => {
                assert!((min..=max).contains(&rate), "{rate}");
                let holds = random.random::<f64>() < probability(rate);
                search.record(rate, if holds { Trial::Holds } else { SERVER });
            }
        }
    }
    panic!("no end: {search:?}");
}

#[test]
fn a_step_is_found_within_the_precision() {
    for step in [150.0, 1234.0, 7777.0, 99_000.0] {
        let (answer, trials) = search((100.0, 1e6), 1, |rate| f64::from(u8::from(rate <= step)));
        let rate = answer.rate.unwrap();
        assert!(rate <= step && step < rate * PRECISION * 1.01, "{step}: {answer:?}");
        assert_eq!((answer.limit, answer.max_reached), (Limit::Server, false));
        assert!(trials <= 40, "{trials}");
    }
}

/// One run in ten says the opposite of the truth.
#[test]
fn a_noisy_step_is_found_nearly_always() {
    let near = |seed: &u64| {
        let (answer, trials) =
            search((100.0, 1e6), *seed, |rate| if rate <= 5000.0 { 0.9 } else { 0.1 });
        assert!(trials <= 60, "{trials}");
        answer.rate.is_some_and(|rate| (4500.0..5500.0).contains(&rate))
    };
    let found = (0..200).filter(near).count();
    assert!(found >= 180, "{found} of 200");
}

/// From 2,000 on ever fewer runs hold; at 4,000 half of them do.
#[test]
fn on_a_slope_the_answer_is_a_rate_that_mostly_holds() {
    let probability = |rate: f64| (1.0 + (rate / 4000.0).powi(6)).recip();
    let rates: Vec<f64> =
        (0..200).filter_map(|seed| search((100.0, 1e6), seed, probability).0.rate).collect();
    let near = rates.iter().filter(|rate| (2000.0..6000.0).contains(*rate)).count();
    assert!(rates.len() == 200 && near >= 190, "{near} of {}", rates.len());
}

#[test]
fn a_flat_curve_ends_at_the_highest_rate_or_has_no_answer() {
    let (all, _) = search((100.0, 5000.0), 1, |_| 1.0);
    assert_eq!((all.rate, all.max_reached), (Some(5000.0), true));
    let (none, trials) = search((100.0, 5000.0), 1, |_| 0.0);
    assert_eq!((none.rate, none.max_reached, trials), (None, false, 3));
    let (one, _) = search((100.0, 100.0), 1, |_| 1.0);
    assert_eq!((one.rate, one.max_reached), (Some(100.0), true));
}

#[test]
fn a_single_hiccup_does_not_end_the_way_up() {
    let mut search = Search::new(1000.0, 8000.0);
    search.record(1000.0, Trial::Holds);
    search.record(2000.0, SERVER);
    assert_eq!(search.next(), Step::Try(2000.0));
    search.record(2000.0, Trial::Holds);
    assert_eq!(search.next(), Step::Try(2000.0), "one against one");
    search.record(2000.0, Trial::Holds);
    assert_eq!(search.next(), Step::Try(4000.0));
    assert!(search.holds(2000.0) && !search.holds(4000.0));
    assert_eq!(search.best_so_far(), Some(2000.0));
}

#[test]
fn the_limit_is_whose_most_misses_above_it_are() {
    let mut search = Search::new(1000.0, 1040.0);
    for _ in 0..3 {
        search.record(1000.0, Trial::Holds);
        search.record(1040.0, Trial::Misses(Limit::Generator));
    }
    let expected = Answer { rate: Some(1000.0), limit: Limit::Generator, max_reached: false };
    assert_eq!(search.next(), Step::Done(expected));
}

fn result(reasons: &[&str], met: bool) -> RunResult {
    let finding =
        |code: &&str| Finding { code: (*code).into(), text: "text".into(), numbers: [].into() };
    RunResult {
        verdict: Verdict::of(reasons.iter().map(finding).collect(), Vec::new()),
        slo: vec![Slo { expr: "accept_delay.p99<5ms".into(), value: Some(2.0), met }],
        ..RunResult::default()
    }
}

#[test]
fn a_late_generator_says_nothing_about_the_server() {
    let generator = Trial::Misses(Limit::Generator);
    for (reasons, met, expected) in [
        (&[][..], true, Trial::Holds),
        (&[], false, SERVER),
        (&["generator_lag"], true, generator),
        (&["generator_lag", "too_few_samples"], false, generator),
        (&["rate_not_reached"], true, generator),
        (&["rate_not_reached", "shed"], true, SERVER),
        (&["too_few_samples"], false, SERVER),
        (&["something_new"], true, generator),
    ] {
        assert_eq!(trial(&result(reasons, met)), expected, "{reasons:?}, met: {met}");
    }
    let mut exhausted = result(&[], false);
    let ended = [("local_port_exhausted".into(), 1)].into();
    exhausted.outcomes = Outcomes { attempted: 1, ended };
    assert_eq!(trial(&exhausted), generator);
}

#[test]
fn a_point_has_the_medians_of_its_runs() {
    let runs = [result(&[], true), result(&["generator_lag"], true), result(&[], false)];
    let point = point(5.0, &runs, false);
    assert_eq!((point.runs, point.held, point.limit), (3, 1, Some(Limit::Server)));
    assert_eq!(
        (point.values, point.reasons),
        (vec![Some(2.0)], vec!["generator_lag: text".into()])
    );
}
