//! The rounds of a cell of a sweep, summarised.

use super::statistics::Summary;
use crate::model::histogram;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::RunResult;
use crate::model::sweep::{Spread, SweepCell};

/// Samples of a round below which its p99 is one of its largest values.
const SAMPLES_OF_P99: u64 = 100;

/// Adds to `cell` what its rounds measured.
pub fn summarise(cell: &mut SweepCell, rounds: &[RunResult]) {
    let count = |which: fn(&RunResult) -> bool| rounds.iter().filter(|it| which(it)).count() as u64;
    let summary =
        |of: &dyn Fn(&RunResult) -> Option<f64>| Summary::of(rounds.iter().filter_map(of));
    let spread = |of: &dyn Fn(&RunResult) -> Option<f64>| {
        summary(of).map(|it| Spread { median: it.median, min: it.min, max: it.max })
    };
    let median = |of: &dyn Fn(&RunResult) -> Option<f64>| summary(of).map(|it| it.median);
    cell.rounds = rounds.len() as u64;
    cell.valid = count(|round| round.verdict.valid);
    cell.slo_missed = count(|round| round.slo.iter().any(|slo| !slo.met));
    cell.achieved_rate = median(&|round| round.generator.achieved_rate);
    cell.completed_share = completed_share(rounds);
    cell.p50 = spread(&|round| Some(approx(delays(round)?.p50?)));
    cell.p99 = spread(&|round| {
        let enough = delays(round).filter(|delays| delays.count >= SAMPLES_OF_P99);
        Some(approx(enough?.p99?))
    });
    cell.server_cores = median(&|round| round.evidence.server_cpu.map(|cpu| cpu.cores));
}

/// The durations that a sweep is about: accept_delay, or connect where no accept was observed.
fn delays(result: &RunResult) -> Option<&histogram::Summary> {
    result.sampled(Phase::AcceptDelay).or_else(|| result.sampled(Phase::Connect))
}

fn completed_share(rounds: &[RunResult]) -> Option<f64> {
    let attempted: u64 = rounds.iter().map(|round| round.outcomes.attempted).sum();
    let completed: u64 = rounds.iter().map(|it| it.outcomes.of(Outcome::Completed)).sum();
    (attempted > 0).then(|| approx(completed) / approx(attempted))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::model::outcome::Outcomes;
    use crate::model::verdict::Slo;

    fn round(samples: u64, ns: u64) -> RunResult {
        let mut delays = new_histogram();
        (0..samples).for_each(|_| delays.saturating_record(ns));
        let completed = [("completed".into(), samples)].into();
        let mut round = RunResult {
            histograms: [("accept_delay".into(), histogram::Summary::of(&delays))].into(),
            outcomes: Outcomes { attempted: samples + 1, ended: completed },
            ..RunResult::default()
        };
        round.verdict.valid = samples > 100;
        round.slo = vec![Slo { expr: String::new(), value: None, met: samples > 100 }];
        round
    }

    #[test]
    fn a_cell_has_the_spread_of_its_rounds() {
        let mut cell = SweepCell::default();
        summarise(&mut cell, &[round(199, 1000), round(299, 3000), round(49, 2000)]);
        assert_eq!((cell.rounds, cell.valid, cell.slo_missed), (3, 2, 1));
        let p50 = cell.p50.unwrap();
        assert_eq!((p50.median, p50.min, p50.max), (2000.0, 1000.0, 3001.0));
        assert_eq!(cell.p99.unwrap().median, 2000.5, "49 samples have no p99");
        assert_eq!(cell.completed_share, Some(547.0 / 550.0));
        assert_eq!(cell.server_cores, None);
        let mut empty = SweepCell::default();
        summarise(&mut empty, &[]);
        assert_eq!(empty, SweepCell::default());
    }
}
