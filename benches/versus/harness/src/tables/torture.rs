//! Correctness: what breaks echo servers, tried on each.

use anyhow::{Context, Result};
use loadgen::model::torture::{CaseResult, CaseStatus};

use super::{Cell, Effort, Metric, Table, Unit, millis};
use crate::bench::{Bench, GeneratorFailed};
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};

const TIMEOUT_MS: u64 = 180_000;
/// The cases that together take a second.
const SHORT: &str = "--case half-close --case one-byte --case pipelined --case reset-after";

pub(super) fn table(effort: Effort) -> Table {
    let cases = effort.either(SHORT, "");
    let about = effort.either("a short selection of the cases", "all cases");
    Table {
        name: "torture",
        title: "Correctness",
        about: format!(
            "`loadgen torture --quick`, {about}: half-closes, slow readers, resets at every \
             moment, bursts. Every byte is compared. What failed is named below; \
             docs/torture.md tells what the cases do."
        ),
        cells: vec![Cell::new("torture suite", Work::Echo, move |bench, server| {
            measure(bench, server, cases)
        })],
        metrics: vec![
            Metric::higher("passed", "passed", Unit::Plain),
            Metric::lower("failed", "failed", Unit::Plain),
            Metric::lower("skipped", "skipped", Unit::Plain),
        ],
        most_rounds: 1,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, cases: &str) -> Result<Measured> {
    let args = format!("--quick --pid {} {cases}", server.id());
    let result = bench.loadgen_command("torture", server, &args, millis(TIMEOUT_MS))?;
    let torture = result.torture.context("no part of torture").context(GeneratorFailed)?;
    let count = |count: usize| Some(count as f64);
    let measured = Measured::default()
        .with("passed", count(torture.passed))
        .with("failed", count(torture.failed))
        .with("skipped", count(torture.skipped));
    Ok(Measured { notes: torture.cases.iter().filter_map(failure).collect(), ..measured })
}

fn failure(case: &CaseResult) -> Option<String> {
    (case.status == CaseStatus::Failed).then(|| format!("{}: {}", case.name, case.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_their_own_words() {
        let case = |status| CaseResult {
            name: "burst".to_owned(),
            status,
            message: "2 lost".to_owned(),
            took_ms: 1.0,
        };
        assert_eq!(failure(&case(CaseStatus::Failed)).as_deref(), Some("burst: 2 lost"));
        assert_eq!(failure(&case(CaseStatus::Passed)), None);
    }
}
