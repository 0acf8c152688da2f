//! Several results side by side: which of them are rounds of one thing, and how the others differ
//! from the first.

use super::compare::{Results, compare};
use crate::model::comparison::Comparison;
use crate::model::folder::Found;
use crate::model::outcome::Phase;
use crate::model::quantile::Quantile;
use crate::model::result::RunResult;

/// Each set of rounds against the first one, at p50 and p99. A result named `a/1` is round 1 of
/// `a`; a name without a slash is a set of its own. Sets that lack samples are left out.
#[must_use]
pub fn against_the_first(named: &[(&str, &RunResult)]) -> Vec<Comparison> {
    let sets = sets(named);
    let Some((first, others)) = sets.split_first() else { return Vec::new() };
    let observed = |(_, result): &(&str, &RunResult)| result.samples(Phase::AcceptDelay) > 0;
    let phase = if named.iter().any(observed) { Phase::AcceptDelay } else { Phase::Connect };
    let quantiles = [Quantile::P50, Quantile::P99];
    let against = |other: &Set| compare(first.rounds(), other.rounds(), phase, &quantiles).ok();
    others.iter().filter_map(against).collect()
}

/// Results that are compared together.
struct Set {
    name: String,
    found: Vec<Found>,
}

impl Set {
    fn rounds(&self) -> Results<'_> {
        Results { path: &self.name, found: &self.found }
    }
}

fn sets(named: &[(&str, &RunResult)]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for (name, result) in named {
        let (set, round) = name.rsplit_once('/').unwrap_or((name, ""));
        let found = Found { place: round.to_owned(), result: (*result).clone() };
        match sets.iter_mut().find(|it| it.name == set) {
            Some(it) => it.found.push(found),
            None => sets.push(Set { name: set.to_owned(), found: vec![found] }),
        }
    }
    for set in &mut sets {
        set.found.sort_by_cached_key(|found| found.result.started_at.clone());
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::comparison::{Conclusion, Direction};
    use crate::model::histogram::{Summary, new_histogram};

    fn result(ns: u64) -> RunResult {
        let mut delays = new_histogram();
        delays.record_n(ns, 200).unwrap();
        let histograms = [("accept_delay".into(), Summary::of(&delays))].into();
        RunResult { histograms, ..RunResult::default() }
    }

    #[test]
    fn rounds_of_one_name_stand_against_those_of_the_first() {
        let rounds: Vec<(String, RunResult)> = ["a", "b"]
            .into_iter()
            .zip([40_000, 80_000])
            .flat_map(|(set, ns)| (0..5).map(move |n| (format!("{set}/{n}"), result(ns + 10 * n))))
            .collect();
        let named: Vec<(&str, &RunResult)> =
            rounds.iter().map(|(name, result)| (name.as_str(), result)).collect();
        let [only] = &against_the_first(&named)[..] else { panic!("one pair") };
        assert_eq!((only.a.path.as_str(), only.b.path.as_str(), only.paired), ("a", "b", true));
        let different = Conclusion::Different { b_is: Direction::Higher };
        assert!(only.quantiles.iter().all(|it| it.conclusion == different), "{only:?}");
    }

    #[test]
    fn single_results_are_compared_with_what_that_is_worth() {
        let (one, two, none) = (result(5_000), result(6_000), RunResult::default());
        let named = [("before", &one), ("after", &two), ("torture", &none)];
        let [only] = &against_the_first(&named)[..] else { panic!("one pair has samples") };
        let few = Conclusion::TooFewRounds { have: 1, need: 5 };
        assert!(only.quantiles.iter().all(|it| it.conclusion == few), "{only:?}");
        assert!(against_the_first(&named[..1]).is_empty() && against_the_first(&[]).is_empty());
    }
}
