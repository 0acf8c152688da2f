use loadgen::analyse::statistics::Verdict;

use super::*;
use crate::candidate::CANDIDATES;
use crate::sample::Measured;
use crate::standing::{Better, Standing};
use crate::tables::Unit;

const METRIC: Metric = Metric {
    key: "x",
    title: "x",
    unit: Unit::Plain,
    better: Better::Lower,
    compared: true,
    drawn: false,
};

/// A row whose rounds have these values.
fn row(values: &[f64]) -> Row {
    let mut row = Row::new(&CANDIDATES[0]);
    for (round, value) in values.iter().enumerate() {
        let measured = Measured::default().with(METRIC.key, Some(*value));
        row.samples.push(Sample { round, measured });
    }
    row
}

impl Row {
    fn with(mut self, round: usize, change: impl Fn(&mut Measured)) -> Self {
        change(&mut self.samples[round].measured);
        self
    }

    fn void(self, round: usize) -> Self {
        self.with(round, |measured| measured.generator_failure = Some("late".to_owned()))
    }

    fn lossy(self, round: usize) -> Self {
        self.with(round, |measured| {
            (measured.lost, measured.server_failure) = (2, Some("lost: 2 refused".to_owned()));
        })
    }
}

fn median(row: &Row) -> (f64, usize, bool) {
    let number = row.number(&METRIC).expect("a number");
    (number.summary.median, number.summary.count, number.sound)
}

#[test]
fn void_rounds_stay_out_where_enough_others_are_there() {
    let row = row(&[1.0, 2.0, 3.0, 90.0, 91.0]).void(3).void(4);
    assert_eq!(median(&row), (2.0, 3, true));
}

#[test]
fn with_too_few_valid_rounds_the_number_is_of_all_and_not_sound() {
    assert_eq!(median(&row(&[1.0, 5.0, 9.0]).void(1).void(2)), (5.0, 3, false));
}

#[test]
fn rounds_in_which_the_server_lost_connections_count() {
    let row = row(&[1.0, 2.0, 9.0, 9.0, 9.0]).lossy(2).lossy(3).lossy(4);
    assert_eq!(median(&row), (9.0, 5, true));
    assert_eq!((row.lost(), row.is_reliable()), (6, false));
}

#[test]
fn a_row_whose_rounds_all_failed_is_empty() {
    let row = row(&[1.0]).with(0, |measured| measured.values.clear());
    assert!(row.is_empty() && row.number(&METRIC).is_none());
}

#[test]
fn a_round_that_is_void_for_one_is_void_for_the_pair() {
    let (one, other) = (row(&[1.0; 7]), row(&[2.0; 7]));
    assert_eq!(one.compare(&other, &METRIC).rounds, 7);
    assert_eq!(one.void(0).compare(&other.void(3), &METRIC).rounds, 5);
}

#[test]
fn nothing_finer_than_the_resolution_is_a_difference() {
    let (one, other) = (row(&[100.0; 5]), row(&[140.0; 5]));
    assert!(matches!(one.compare(&other, &METRIC).verdict, Verdict::Different(_)));
    let coarse = (0..5).fold(one, |row, round| {
        row.with(round, |measured| {
            measured.resolutions.insert(METRIC.key, 50.0);
        })
    });
    let verdict = coarse.compare(&other, &METRIC).verdict;
    assert_eq!(verdict, Verdict::NoDifferenceSeen { would_have_seen: 1.5 });
}

#[test]
fn who_lost_connections_is_the_best_of_nobody() {
    let rows = vec![row(&[1.0; 5]).lossy(0), row(&[2.0; 5])];
    let cell = CellResult { name: "x".to_owned(), rows };
    let (_, best) = cell.best(|_| true, &METRIC).expect("the other");
    assert_eq!(best.median, 2.0);
}

/// Numbers that look random and are the same in every run: 5 % of noise.
fn noise(state: &mut u64) -> f64 {
    let uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let sum: f64 = std::iter::repeat_with(uniform).take(12).sum();
    100.0 * (1.0 + 0.05 * (sum - 6.0))
}

/// The best of several is chosen after the fact, which makes a difference by chance likelier.
#[test]
fn beside_the_best_of_eight_equals_few_are_called_ahead_or_behind() {
    let mut state = 1;
    let mut called = 0;
    for _ in 0..1000 {
        let mut five = || row(&std::array::from_fn::<f64, 5, _>(|_| noise(&mut state)));
        let subject = five();
        let cell = CellResult { name: String::new(), rows: (0..8).map(|_| five()).collect() };
        let (best, _) = cell.best(|_| true, &METRIC).expect("eight");
        let standing = Standing::of(&subject.compare(best, &METRIC), METRIC.better, true);
        called += usize::from(!matches!(standing, Some(Standing::Level { .. })));
    }
    assert!(called <= 50, "{called} of 1000");
}
