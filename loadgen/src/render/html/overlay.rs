//! Several results in one page: their curves in the same charts, a row each, and details below.

use maud::{Markup, html};

use super::{command, comparison, figure, sections, verdict_badge};
use crate::model::comparison::Comparison;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::RunResult;
use crate::render::chart::{self, Curve};
use crate::render::{headline, units};

/// Details are there for as many results; a page with more would be too large to read.
const DETAILED: usize = 8;

/// A result and what it is called among others.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Short and different from the others.
    pub name: &'a str,
    /// What was measured.
    pub result: &'a RunResult,
}

pub(super) fn sections(results: &[Named<'_>], comparisons: &[Comparison]) -> Markup {
    html! {
        header {
            h1 { (units::count(results.len() as u64)) " results of loadgen" }
            p.headline { (range(results)) }
        }
        main {
            div.charts {
                @for picture in Phase::ALL.iter().filter_map(|phase| curves(results, *phase)) {
                    (picture)
                }
            }
            h2 { "Results" }
            (table(results))
            @if !comparisons.is_empty() { (comparison::section(comparisons)) }
            @for named in results.iter().take(DETAILED) { (details(named)) }
            @if results.len() > DETAILED {
                p {
                    "Details of the first " (DETAILED) " only: "
                    code { "loadgen report FILE --html FILE" } " shows those of one."
                }
            }
        }
    }
}

/// From the lowest to the highest p99 among them.
fn range(results: &[Named<'_>]) -> String {
    let valid = results.iter().filter(|named| named.result.verdict.valid).count();
    let p99 = |named: &&Named<'_>| named.result.sampled(Phase::AcceptDelay).and_then(|s| s.p99);
    let low = results.iter().min_by_key(|named| p99(named).unwrap_or(u64::MAX));
    let high = results.iter().max_by_key(|named| p99(named));
    let ends = low.zip(high).and_then(|(low, high)| {
        let [lowest, highest] = [p99(&low)?, p99(&high)?].map(units::duration);
        Some(format!(
            " 99 % were accepted within {lowest} ({}) to {highest} ({}).",
            low.name, high.name
        ))
    });
    format!("{valid} of {} VALID.{}", results.len(), ends.unwrap_or_default())
}

fn curves(results: &[Named<'_>], phase: Phase) -> Option<Markup> {
    let curve = |named: &Named<'_>| {
        let histogram = named.result.sampled(phase)?.histogram().ok()?;
        Some(Curve { name: named.name.to_owned(), histogram })
    };
    let curves: Vec<Curve> = results.iter().filter_map(curve).collect();
    (!curves.is_empty()).then(|| figure("overlay", &chart::percentiles(phase.name(), &curves), ""))
}

fn table(results: &[Named<'_>]) -> Markup {
    html! {
        div.scroll { table.numbers {
            thead { tr {
                @for name in
                    ["result", "verdict", "attempted", "completed", "p50", "p99", "p99.9", "max"]
                {
                    th { (name) }
                }
            } }
            tbody { @for named in results { (row(named)) } }
        } }
        p.dim { "Percentiles are those of accept_delay." }
    }
}

fn row(named: &Named<'_>) -> Markup {
    let outcomes = &named.result.outcomes;
    let delay = named.result.sampled(Phase::AcceptDelay);
    let bound_ns = named.result.clock_bound_ns(Phase::AcceptDelay.name());
    let percentiles = [
        delay.and_then(|s| s.p50),
        delay.and_then(|s| s.p99.filter(|_| s.count >= 100)),
        delay.and_then(|s| s.p99_9.filter(|_| s.count >= 1000)),
        delay.and_then(|s| s.max),
    ];
    html! {
        tr {
            th scope="row" { (named.name) }
            td { (headline::verdict(named.result)) }
            td { (units::count(outcomes.attempted)) }
            td { (units::count(outcomes.of(Outcome::Completed))) }
            @for value in percentiles { td { (units::bounded(value, bound_ns)) } }
        }
    }
}

fn details(named: &Named<'_>) -> Markup {
    let result = named.result;
    html! {
        details {
            summary { (named.name) " · " (command(result)) " → " (result.target.addr) }
            p.headline { (verdict_badge(result)) (headline::sentence(result)) }
            (sections::content(result))
        }
    }
}
