//! Objectives: a measured value, a relation and a bound, such as `accept_delay.p99<5ms`.
//!
//! Values are a statistic of a phase (`accept_delay.p99`, `connect.mean`, `echo_rtt.count`) or the
//! number of attempts with an outcome (`completed`, `never_accepted`), in which `attempted` and
//! `failed`, all that did not complete, count as outcomes. A bound is a duration with its unit for
//! a time; a count, or with % a share of the attempts, for an outcome.

mod parse;

use crate::model::outcome::{Outcome, Phase};
use crate::model::quantile::Quantile;
use crate::model::result::{Aborted, RunResult};
use crate::model::verdict::Slo;

pub use parse::{AbortError, SloError};

/// An objective, or a condition that ends a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    text: String,
    metric: Metric,
    relation: Relation,
    /// In nanoseconds, attempts or as a share from 0 to 1.
    bound: f64,
}

/// A condition that ends a run as soon as it is true.
#[derive(Debug, Clone, PartialEq)]
pub struct AbortCondition {
    text: String,
    condition: Objective,
    /// It is not looked at before, from the begin of the measured part.
    after_ns: u64,
}

/// What is compared with the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    /// Nanoseconds.
    Time(Phase, Statistic),
    /// Samples of a phase.
    Samples(Phase),
    /// Attempts.
    Count(Attempts),
    /// Their share of all.
    Share(Attempts),
}

/// A statistic of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    Quantile(Quantile),
    Min,
    Mean,
    Max,
    Stdev,
}

/// Which attempts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempts {
    All,
    /// Without `completed`.
    Failed,
    Ended(Outcome),
}

/// How value and bound relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Numbers that differ by less, relatively, are equal: 99.9 % is not exactly 0.999.
const EQUAL: f64 = 1e-12;

impl Objective {
    /// As it was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The phase whose histogram it looks at.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self.metric {
            Metric::Time(phase, _) | Metric::Samples(phase) => Some(phase),
            Metric::Count(_) | Metric::Share(_) => None,
        }
    }

    /// Judges a result. What was not measured has no value and does not meet an objective.
    #[must_use]
    pub fn judge(&self, result: &RunResult) -> Slo {
        let value = self.metric.of(result);
        Slo { expr: self.text.clone(), value, met: value.is_some_and(|value| self.holds(value)) }
    }

    fn holds(&self, value: f64) -> bool {
        let equal = (value - self.bound).abs() <= EQUAL * self.bound.abs().max(value.abs());
        match self.relation {
            Relation::Less => value < self.bound && !equal,
            Relation::LessOrEqual => value < self.bound || equal,
            Relation::Greater => value > self.bound && !equal,
            Relation::GreaterOrEqual => value > self.bound || equal,
            Relation::Equal => equal,
            Relation::NotEqual => !equal,
        }
    }
}

impl AbortCondition {
    /// The phase whose histogram it looks at.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.condition.phase()
    }

    /// Whether the run ends now, `measured_ns` after the begin of its measured part.
    #[must_use]
    pub fn check(&self, so_far: &RunResult, measured_ns: u64) -> Option<Aborted> {
        if measured_ns < self.after_ns {
            return None;
        }
        let Slo { value, met, .. } = self.condition.judge(so_far);
        let value = value.filter(|_| met)?;
        Some(Aborted { expr: self.text.clone(), value, after_ns: measured_ns })
    }
}

impl Metric {
    fn of(self, result: &RunResult) -> Option<f64> {
        match self {
            Self::Time(phase, statistic) => statistic.of(result, phase),
            Self::Samples(phase) => Some(approx(result.samples(phase))),
            Self::Count(attempts) => Some(approx(attempts.of(result))),
            Self::Share(attempts) => {
                let all = result.outcomes.attempted;
                (all > 0).then(|| approx(attempts.of(result)) / approx(all))
            }
        }
    }
}

impl Statistic {
    fn of(self, result: &RunResult, phase: Phase) -> Option<f64> {
        let summary = result.sampled(phase)?;
        match self {
            Self::Quantile(quantile) => {
                summary.histogram().ok().map(|h| approx(h.value_at_quantile(quantile.share())))
            }
            Self::Min => summary.min.map(approx),
            Self::Mean => summary.mean,
            Self::Max => summary.max.map(approx),
            Self::Stdev => summary.stdev,
        }
    }
}

impl Attempts {
    fn of(self, result: &RunResult) -> u64 {
        let outcomes = &result.outcomes;
        match self {
            Self::All => outcomes.attempted,
            Self::Failed => outcomes.attempted.saturating_sub(outcomes.of(Outcome::Completed)),
            Self::Ended(outcome) => outcomes.of(outcome),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds are not that exact")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
