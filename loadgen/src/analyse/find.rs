//! The search for the highest rate that holds: which rate to try next, from the trials so far.
//!
//! One run says little: a hiccup makes a good rate miss, luck makes a bad one hold. A miss counts
//! only if a second one of three confirms it, and both ends of the answer are confirmed by three of
//! at most five runs: the rate that is found, and the next one above it, which misses. Upwards the
//! rate doubles; between a rate that holds and one that does not the geometric mean is tried until
//! they are within [`PRECISION`].

use std::collections::BTreeMap;

use super::statistics::Summary;
use crate::model::found::{CurvePoint, Limit};
use crate::model::histogram;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::RunResult;

/// The rate that is found and the next one above it differ by no more than this factor.
pub const PRECISION: f64 = 1.05;

/// Equal trials that decide about an end of the answer.
const CONFIRMED: usize = 3;

/// Equal trials that decide for the time being: one that holds, two that do not.
const MISSES_BELIEVED: usize = 2;

/// What one run said about its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// All objectives were met, by numbers that can be trusted.
    Holds,
    /// Not, and this is whose limit it was.
    Misses(Limit),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A run at this rate.
    Try(f64),
    /// It is known.
    Done(Answer),
}

/// The end of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The highest rate that holds, if one does.
    pub rate: Option<f64>,
    /// What the next rate above it is short of.
    pub limit: Limit,
    /// There is no rate above it.
    pub max_reached: bool,
}

/// All trials so far.
#[derive(Debug, Clone)]
pub struct Search {
    min: f64,
    max: f64,
    /// By rate, ascending.
    tried: Vec<Tried>,
}

/// The trials at one rate.
#[derive(Debug, Clone, PartialEq)]
struct Tried {
    rate: f64,
    trials: Vec<Trial>,
}

/// What is believed about a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Holds,
    Misses,
    /// One more trial will tell.
    Unclear,
}

impl Search {
    /// Between these rates, the lower one first.
    #[must_use]
    pub fn new(min: f64, max: f64) -> Self {
        Self { min, max: max.max(min), tried: Vec::new() }
    }

    /// What the trials so far ask for.
    #[must_use]
    pub fn next(&self) -> Step {
        if let Some(unclear) = self.tried.iter().find(|it| it.belief() == Belief::Unclear) {
            return Step::Try(unclear.rate);
        }
        let above = self.tried.iter().find(|it| it.belief() == Belief::Misses);
        let below = self.tried.iter().rev().find(|it| {
            it.belief() == Belief::Holds && above.is_none_or(|above| it.rate < above.rate)
        });
        let untried = match (below, above) {
            (None, None) => Some(self.min),
            (Some(below), None) => {
                (below.rate < self.max).then(|| (2.0 * below.rate).min(self.max))
            }
            (Some(below), Some(above)) => between(below.rate, above.rate),
            (None, Some(_)) => None,
        };
        untried.map_or_else(|| confirm(below, above), Step::Try)
    }

    /// What a run at `rate` said.
    pub fn record(&mut self, rate: f64, trial: Trial) {
        match self.tried.binary_search_by(|it| it.rate.total_cmp(&rate)) {
            Ok(at) => self.tried[at].trials.push(trial),
            Err(at) => self.tried.insert(at, Tried { rate, trials: vec![trial] }),
        }
    }

    /// Whether `rate` counts as one that holds.
    #[must_use]
    pub fn holds(&self, rate: f64) -> bool {
        let tried = self.tried.iter().find(|it| it.rate.total_cmp(&rate).is_eq());
        tried.is_some_and(|it| it.belief() == Belief::Holds)
    }

    /// The highest rate that is believed to hold, confirmed or not.
    #[must_use]
    pub fn best_so_far(&self) -> Option<f64> {
        let holding = self.tried.iter().take_while(|it| it.belief() != Belief::Misses);
        holding.filter(|it| it.belief() == Belief::Holds).map(|it| it.rate).last()
    }
}

/// Both ends, and the answer once both are certain.
fn confirm(below: Option<&Tried>, above: Option<&Tried>) -> Step {
    let uncertain = [below, above].into_iter().flatten().find(|it| !it.is_certain());
    if let Some(uncertain) = uncertain {
        return Step::Try(uncertain.rate);
    }
    Step::Done(Answer {
        rate: below.map(|it| it.rate),
        limit: above.map_or(Limit::Generator, Tried::limit),
        max_reached: above.is_none(),
    })
}

/// A round number between two rates that are not close enough yet.
fn between(low: f64, high: f64) -> Option<f64> {
    if high <= low * PRECISION {
        return None;
    }
    let mean = (low * high).sqrt();
    let unit = 10f64.powf(mean.log10().floor() - 2.0);
    let round = (mean / unit).round() * unit;
    let inside = |rate: f64| low < rate && rate < high;
    [round, mean].into_iter().find(|rate| inside(*rate))
}

impl Tried {
    fn held(&self) -> usize {
        self.trials.iter().filter(|trial| **trial == Trial::Holds).count()
    }

    fn missed(&self) -> usize {
        self.trials.len() - self.held()
    }

    fn belief(&self) -> Belief {
        match (self.held(), self.missed()) {
            (held, missed) if held > missed => Belief::Holds,
            (held, missed) if missed > held && missed >= MISSES_BELIEVED => Belief::Misses,
            _ => Belief::Unclear,
        }
    }

    fn is_certain(&self) -> bool {
        self.held().max(self.missed()) >= CONFIRMED
    }

    /// Whose limit most of the misses were.
    fn limit(&self) -> Limit {
        let of = |limit| self.trials.iter().filter(|it| **it == Trial::Misses(limit)).count();
        if of(Limit::Server) >= of(Limit::Generator) { Limit::Server } else { Limit::Generator }
    }
}

/// What a run says about its rate. A generator that is late or too slow did not offer the load:
/// nothing is known then about the server. A run that was cut short by `--max-in-flight` did: the
/// server let that many wait.
#[must_use]
pub fn trial(result: &RunResult) -> Trial {
    let codes: Vec<&str> =
        result.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let shed = codes.contains(&"shed");
    let of_the_server = ["shed", "too_few_samples", "interrupted"];
    let of_the_generator = |code: &&str| match *code {
        "rate_not_reached" => !shed,
        code => !of_the_server.contains(&code),
    };
    let out_of = |outcome| result.outcomes.of(outcome) > 0;
    let exhausted = out_of(Outcome::LocalPortExhausted) || out_of(Outcome::FdLimit);
    if exhausted || codes.iter().any(of_the_generator) {
        return Trial::Misses(Limit::Generator);
    }
    let met = result.slo.iter().all(|slo| slo.met) && !shed && result.aborted.is_none();
    if met { Trial::Holds } else { Trial::Misses(Limit::Server) }
}

/// The point of a rate on the curve, from its runs.
#[must_use]
pub fn point(rate: f64, runs: &[RunResult], holds: bool) -> CurvePoint {
    let median = |of: &dyn Fn(&RunResult) -> Option<f64>| {
        Summary::of(runs.iter().filter_map(of)).map(|it| it.median)
    };
    let delay = |of: fn(&histogram::Summary) -> Option<u64>| {
        median(&|run| Some(approx(of(run.sampled(Phase::AcceptDelay)?)?)))
    };
    let objectives = runs.first().map_or(0, |run| run.slo.len());
    let trials: Vec<Trial> = runs.iter().map(trial).collect();
    let misses = Tried { rate, trials };
    let findings = runs.iter().flat_map(|run| &run.verdict.reasons);
    let reasons: BTreeMap<&str, &str> =
        findings.map(|reason| (reason.code.as_str(), reason.text.as_str())).collect();
    CurvePoint {
        rate,
        achieved_rate: median(&|run| run.generator.achieved_rate),
        runs: runs.len() as u64,
        held: misses.held() as u64,
        holds,
        values: (0..objectives).map(|at| median(&|run| run.slo.get(at)?.value)).collect(),
        p50_ns: delay(|summary| summary.p50),
        p99_ns: delay(|summary| summary.p99),
        limit: (misses.missed() > 0).then(|| misses.limit()),
        reasons: reasons.iter().map(|(code, text)| format!("{code}: {text}")).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
