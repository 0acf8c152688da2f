//! What came of a run of loadgen: numbers, and whose fault it is if something went wrong.

use loadgen::model::histogram::Summary;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::model::result::RunResult;

use crate::cpu_meter::Window;
use crate::sample::{Measured, together};

/// Ways in which an attempt ends that say nothing about the server.
const GENERATORS: [Outcome; 5] = [
    Outcome::LocalPortExhausted,
    Outcome::FdLimit,
    Outcome::Unreachable,
    Outcome::ClockError,
    Outcome::Shed,
];

/// One of a histogram's numbers.
pub(crate) type Pick = fn(&Summary) -> Option<u64>;

/// What loadgen printed, and what the server used meanwhile.
pub(crate) struct LoadgenResult {
    pub(crate) result: RunResult,
    /// CPUs that the server used while the load was on.
    pub(crate) cores: Option<f64>,
}

impl LoadgenResult {
    /// A number of a phase, such as its `p99`, in nanoseconds.
    pub(crate) fn of(&self, phase: Phase, pick: Pick) -> Option<f64> {
        pick(self.result.histograms.get(phase.name())?).map(|ns| ns as f64)
    }

    /// Attempts that completed.
    pub(crate) fn completed(&self) -> f64 {
        self.result.outcomes.of(Outcome::Completed) as f64
    }

    /// `total` for each attempt that completed; nothing if none did.
    pub(crate) fn per_completed(&self, total: f64) -> Option<f64> {
        Some(total / self.completed()).filter(|each| each.is_finite())
    }

    /// No numbers yet, but what went wrong and how many connections were lost.
    pub(crate) fn outcome(&self) -> Measured {
        let is_generators = |name: &str| GENERATORS.iter().any(|it| it.name() == name);
        let lost = self.endings(|name| !is_generators(name));
        let not_made = self.endings(is_generators);
        Measured {
            lost: lost.iter().map(|(count, _)| count).sum(),
            server_failure: counted("lost", &lost),
            generator_failure: together([self.reasons(), counted("not attempted", &not_made)]),
            ..Measured::default()
        }
    }

    /// Why loadgen declares the run invalid, if it does.
    fn reasons(&self) -> Option<String> {
        let verdict = &self.result.verdict;
        let reasons = verdict.reasons.iter().map(|it| format!("{}: {}", it.code, it.text));
        (!verdict.valid).then(|| reasons.collect::<Vec<_>>().join("; "))
    }

    /// How often attempts ended otherwise than `completed`, in the ways that are `wanted`.
    fn endings(&self, wanted: impl Fn(&str) -> bool) -> Vec<(u64, &str)> {
        let counts = self.result.outcomes.ended.iter().map(|(name, count)| (*count, name.as_str()));
        let others = counts.filter(|(_, name)| *name != Outcome::Completed.name());
        others.filter(|(count, name)| *count > 0 && wanted(name)).collect()
    }

    /// From the first attempt to the last end.
    pub(crate) fn window(&self) -> Option<Window> {
        let times = self.result.times?;
        let length = times.load_ended.saturating_sub(times.load_began);
        Some(Window { begin: times.load_began, length })
    }
}

fn counted(what: &str, endings: &[(u64, &str)]) -> Option<String> {
    let texts: Vec<String> =
        endings.iter().map(|(count, name)| format!("{count} {name}")).collect();
    (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use loadgen::model::outcome::Outcomes;
    use loadgen::model::verdict::{Finding, Verdict};

    use super::*;

    /// Of a valid run with these outcomes.
    fn ended(outcomes: &[(Outcome, u64)]) -> LoadgenResult {
        let ended = outcomes.iter().map(|(outcome, count)| (outcome.name().to_owned(), *count));
        let outcomes = Outcomes { ended: ended.collect(), ..Outcomes::default() };
        let verdict = Verdict { valid: true, ..Verdict::default() };
        let result = RunResult { outcomes, verdict, ..RunResult::default() };
        LoadgenResult { result, cores: None }
    }

    #[test]
    fn the_server_and_the_generator_answer_for_their_own() {
        let ended = ended(&[
            (Outcome::Completed, 4),
            (Outcome::Refused, 3),
            (Outcome::NeverAccepted, 0),
            (Outcome::FdLimit, 2),
        ]);
        let outcome = ended.outcome();
        assert_eq!(outcome.lost, 3);
        assert_eq!(outcome.server_failure.as_deref(), Some("lost: 3 refused"));
        assert_eq!(outcome.generator_failure.as_deref(), Some("not attempted: 2 fd_limit"));
    }

    #[test]
    fn all_is_well_where_all_completed() {
        let outcome = ended(&[(Outcome::Completed, 5)]).outcome();
        assert_eq!((outcome.server_failure, outcome.generator_failure), (None, None));
    }

    #[test]
    fn a_verdict_is_given_in_its_own_words() {
        let mut invalid = ended(&[(Outcome::Completed, 5)]);
        let finding = |code: &str, text: &str| Finding {
            code: code.to_owned(),
            text: text.to_owned(),
            numbers: BTreeMap::new(),
        };
        invalid.result.verdict = Verdict {
            valid: false,
            reasons: vec![finding("a", "b"), finding("c", "d")],
            ..Verdict::default()
        };
        assert_eq!(invalid.outcome().generator_failure.as_deref(), Some("a: b; c: d"));
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        assert_eq!(ended(&[]).per_completed(900.0), None);
        assert_eq!(ended(&[(Outcome::Completed, 300)]).per_completed(900.0), Some(3.0));
    }
}
