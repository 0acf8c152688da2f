//! Correctness: what breaks echo servers, tried on each.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Cell, Effort, Metric, Table, Unit, millis};
use crate::bench::Bench;
use crate::sample::Measured;
use crate::server::{Server, Work};

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
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, cases: &str) -> Result<Measured> {
    let args = format!("--quick --pid {} {cases}", server.id());
    let result = bench.loadgen_command("torture", server, &args, millis(TIMEOUT_MS))?;
    let cases = result.pointer("/cases").and_then(Value::as_array).context("no cases")?;
    let number = |name: &str| result.get(name).and_then(Value::as_f64);
    let measured = Measured::default()
        .with("passed", number("passed"))
        .with("failed", number("failed"))
        .with("skipped", number("skipped"));
    Ok(Measured { notes: cases.iter().filter_map(failure).collect(), ..measured })
}

fn failure(case: &Value) -> Option<String> {
    let text = |name: &str| case.get(name).and_then(Value::as_str);
    (text("verdict")? == "failed").then_some(())?;
    Some(format!("{}: {}", text("name")?, text("words")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_their_own_words() {
        let case = serde_json::json!({"name": "burst", "verdict": "failed", "words": "2 lost"});
        assert_eq!(failure(&case).as_deref(), Some("burst: 2 lost"));
        let case = serde_json::json!({"name": "burst", "verdict": "passed", "words": "fine"});
        assert_eq!(failure(&case), None);
    }
}
