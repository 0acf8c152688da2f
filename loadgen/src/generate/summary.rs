//! What was recorded, in the form of the result file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::aggregation::{Aggregate, Row};
use super::recorder::Counts;
use crate::model::histogram::Summary;
use crate::model::interval::Interval;
use crate::model::outcome::{ErrnoCount, Outcome, Outcomes, Phase};
use crate::model::result::RunResult;
use crate::model::server::Resolution;

impl Aggregate {
    /// Writes everything that was recorded into `result`; call [`Aggregate::finish`] first.
    pub fn write_into(&self, result: &mut RunResult) {
        let counts = self.all().counts();
        result.outcomes = outcomes(counts);
        result.errnos = self.errnos();
        result.errnos_other = self.all().errnos().others();
        result.warmup_excluded = counts.warmup_excluded;
        result.accepted_before_return = counts.accepted_before_return;
        result.accept_order_undetermined = Some(counts.accept_order_undetermined);
        result.not_observed = Some(counts.not_observed);
        result.censored = counts.censored;
        result.clipped = counts.clipped;
        result.bytes_sent = counts.bytes_sent;
        result.bytes_received = counts.bytes_received;
        result.histograms = self.histograms();
        result.intervals = self.rows().iter().map(interval).collect();
        result.generator.last_intended_ns = counts.last_intended_ns;
        result.generator.last_called_ns = counts.last_called_ns;
        result.evidence.samples_missed = counts.samples_missed;
        if let Some(delay) = &mut result.evidence.server_run_delay {
            delay.held_by_generator_ns = Some(counts.cpu_held_ns);
        }
        result.evidence.retransmission_schedule = Some(counts.retransmitted);
        let given_up = counts.outcome(Outcome::NeverAccepted) > 0;
        result.evidence.unaccepted = given_up.then_some(counts.unaccepted);
        result.target.clock_offset = self.clock_offset();
        result.target.resolution = result.sampled(Phase::DiagResolution).and_then(resolution);
    }

    /// What is known in the middle of a run: the attempts that have ended, how, and these phases.
    pub fn so_far(&self, phases: &BTreeSet<Phase>) -> RunResult {
        let mut result =
            RunResult { outcomes: outcomes(self.all().counts()), ..RunResult::default() };
        result.outcomes.attempted = result.outcomes.finished();
        let summary = |phase: &Phase| Summary::of(self.all().histogram(*phase));
        let histograms = phases.iter().map(|phase| (phase.name().into(), summary(phase)));
        result.histograms = histograms.collect();
        result
    }

    fn errnos(&self) -> Vec<ErrnoCount> {
        let kinds = self.all().errnos().iter().map(|(outcome, errno, count)| ErrnoCount {
            outcome: outcome.name().into(),
            errno,
            message: io::Error::from_raw_os_error(errno).to_string(),
            count,
        });
        kinds.collect()
    }

    fn histograms(&self) -> BTreeMap<String, Summary> {
        let recorded = |phase: &Phase| !self.all().histogram(*phase).is_empty();
        let shown = |phase: &Phase| *phase == Phase::AcceptDelay || recorded(phase);
        let phases = Phase::ALL.into_iter().filter(shown);
        phases.map(|p| (p.name().into(), Summary::of(self.all().histogram(p)))).collect()
    }
}

fn outcomes(counts: &Counts) -> Outcomes {
    let ended = Outcome::ALL.map(|outcome| (outcome.name().into(), counts.outcome(outcome)));
    Outcomes { attempted: counts.attempted, ended: ended.into() }
}

fn interval(row: &Row) -> Interval {
    let histograms = row.histograms.iter();
    Interval {
        start_ns: row.start_ns,
        length_ns: row.end_ns.saturating_sub(row.start_ns),
        outcomes: outcomes(&row.counts),
        warmup_excluded: row.counts.warmup_excluded,
        histograms: histograms.map(|(p, h)| (p.name().into(), Summary::of(&h.unpack()))).collect(),
    }
}

fn resolution(widths: &Summary) -> Option<Resolution> {
    Some(Resolution { p50_ns: widths.p50?, p99_ns: widths.p99? })
}
