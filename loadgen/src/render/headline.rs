//! What a result says, in a sentence or two.

use super::{comparison, sequence, units};
use crate::model::histogram::Summary;
use crate::model::hold::Hold;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::{Kind, RunResult};
use crate::model::torture::Torture;
use crate::model::watch::Watch;

/// `VALID`, or why the numbers are not to be quoted.
pub fn verdict(result: &RunResult) -> &'static str {
    if result.verdict.valid { "VALID" } else { "INVALID" }
}

/// What was measured, in words.
pub fn sentence(result: &RunResult) -> String {
    match (result.kind, &result.hold, &result.torture) {
        (Kind::Hold, Some(hold), _) => held(hold),
        (Kind::Watch, ..) => result.watch.as_ref().map_or_else(String::new, |w| watched(result, w)),
        (Kind::Torture, _, Some(torture)) => tortured(torture),
        (Kind::Comparison, ..) => compared(result),
        (Kind::Sweep, ..) => swept(result),
        (Kind::Trace, ..) => {
            result.trace.as_ref().map_or_else(String::new, |it| sequence::sentences(it).join(" "))
        }
        _ => ran(result),
    }
}

fn ran(result: &RunResult) -> String {
    let completed = result.outcomes.of(Outcome::Completed);
    let ended = match result.outcomes.attempted {
        0 => "No connection was attempted.".to_owned(),
        n if n == completed => format!("All of {} completed.", units::plural(n, "connection")),
        n => format!(
            "{} of {} completed ({}).",
            units::count(completed),
            units::plural(n, "connection"),
            units::percent(completed, n)
        ),
    };
    match (result.sampled(Phase::AcceptDelay), result.sampled(Phase::Connect)) {
        (Some(delay), _) => {
            let bound_ns = result.clock_bound_ns(Phase::AcceptDelay.name());
            format!("{} {ended}", waited(delay, bound_ns))
        }
        (None, Some(connect)) => format!(
            "No accept was observed; connect alone took {} (median). {ended}",
            units::maybe(connect.p50)
        ),
        (None, None) => ended,
    }
}

/// As many percentiles as there are samples for.
fn waited(delay: &Summary, bound_ns: u64) -> String {
    let told = |ns: Option<u64>| units::bounded(ns, bound_ns);
    let (median, slowest) = (told(delay.p50), told(delay.max));
    match delay.p99.filter(|_| delay.count >= 100) {
        Some(p99) => format!(
            "Half of the connections were accepted within {median} of connect, 99 % within {}, \
             the slowest after {slowest}.",
            told(Some(p99))
        ),
        None => format!(
            "Half of the connections were accepted within {median} of connect, the slowest after \
             {slowest}."
        ),
    }
}

fn watched(result: &RunResult, watch: &Watch) -> String {
    let accepts = units::plural(watch.accepts, "connection");
    let delay = result.sampled(Phase::AcceptDelay).filter(|delay| delay.count >= 100);
    match delay.and_then(|delay| delay.p99) {
        Some(p99) => format!(
            "{accepts} waited {} at the 99th percentile; the longest queue was {} of {}.",
            units::resolved(p99, watch.resolution_ns),
            units::count(watch.depth_max.into()),
            units::count(watch.limit.into())
        ),
        None => format!("{accepts} seen to be accepted."),
    }
}

fn compared(result: &RunResult) -> String {
    let quantiles = result.comparison.iter().flat_map(|comparison| &comparison.quantiles);
    let said = quantiles.map(|of| format!("{}: {}.", of.quantile, comparison::conclusion(of)));
    said.collect::<Vec<_>>().join(" ")
}

fn swept(result: &RunResult) -> String {
    let Some(sweep) = &result.sweep else { return String::new() };
    let cells = units::plural(sweep.cells.len() as u64, "cell");
    format!("{cells}, {} each.", units::plural(sweep.rounds.into(), "round"))
}

fn held(hold: &Hold) -> String {
    let each = hold.bytes_per_connection;
    let user_space = match each.user_space {
        Some(bytes) => format!("{} bytes of the server's memory and ", units::signed(bytes)),
        None => String::new(),
    };
    format!(
        "{} of {} were held for {:.1} s and {} of them lost; each cost {user_space}{} bytes of \
         kernel slab.",
        units::count(hold.opened.into()),
        units::plural(hold.wanted.into(), "connection"),
        hold.held_s,
        units::count(hold.lost.into()),
        units::signed(each.kernel_slab)
    )
}

fn tortured(torture: &Torture) -> String {
    let count = |n: usize| units::count(n as u64);
    format!(
        "{} cases passed, {} failed, {} skipped.",
        count(torture.passed),
        count(torture.failed),
        count(torture.skipped)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;

    fn run(attempted: u64, completed: u64, samples: u64) -> RunResult {
        let mut result = RunResult::default();
        result.outcomes.attempted = attempted;
        result.outcomes.ended.insert("completed".into(), completed);
        let mut histogram = new_histogram();
        (0..samples).for_each(|_| histogram.saturating_record(38_000));
        result.histograms.insert("accept_delay".into(), Summary::of(&histogram));
        result
    }

    #[test]
    fn percentiles_are_named_as_far_as_there_are_samples() {
        let said = sentence(&run(200, 200, 200));
        assert!(said.starts_with("Half of the connections were accepted within 38.0µs"), "{said}");
        assert!(said.contains("99 %") && said.ends_with("All of 200 connections completed."));
        let said = sentence(&run(20, 10, 20));
        assert!(!said.contains("99 %") && said.contains("10 of 20 connections completed (50.0 %)"));
        let said = sentence(&run(0, 0, 0));
        assert_eq!(said, "No connection was attempted.");
    }
}
