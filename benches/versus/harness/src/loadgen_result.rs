//! What loadgen printed: numbers by pointer, and whose fault it is if something went wrong.

use serde_json::Value;

use crate::cpu_meter::{Window, time_of_day};
use crate::sample::{Measured, together};

/// Ways in which an attempt ends that say nothing about the server.
const GENERATORS: [&str; 5] =
    ["local_port_exhausted", "fd_limit", "unreachable", "clock_error", "shed"];

/// What loadgen printed, and what the server used meanwhile.
pub(crate) struct LoadgenResult {
    pub(crate) result: Value,
    /// CPUs that the server used while the load was on.
    pub(crate) cores: Option<f64>,
}

impl LoadgenResult {
    /// The number at a JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.result.pointer(pointer)?.as_f64()
    }

    /// `above` divided by the number at `below`; nothing where that is zero.
    pub(crate) fn per(&self, above: f64, below: &str) -> Option<f64> {
        self.number(below).filter(|count| *count > 0.0).map(|count| above / count)
    }

    /// No numbers yet, but what went wrong and how many connections were lost.
    pub(crate) fn outcome(&self) -> Measured {
        let lost = self.endings(|name| !GENERATORS.contains(&name));
        let not_made = self.endings(|name| GENERATORS.contains(&name));
        Measured {
            lost: lost.iter().map(|(count, _)| count).sum(),
            server_failure: counted("lost", &lost),
            generator_failure: together([self.reasons(), counted("not attempted", &not_made)]),
            ..Measured::default()
        }
    }

    /// Why loadgen declares the run invalid, if it does.
    fn reasons(&self) -> Option<String> {
        let valid = self.result.pointer("/verdict/valid")?.as_bool()?;
        let reasons = self.result.pointer("/verdict/reasons").and_then(Value::as_array);
        let texts = reasons.into_iter().flatten().filter_map(reason);
        (!valid).then(|| texts.collect::<Vec<_>>().join("; "))
    }

    /// How often attempts ended otherwise than `completed`, in the ways that are `wanted`.
    fn endings(&self, wanted: impl Fn(&str) -> bool) -> Vec<(u64, &str)> {
        let outcomes = self.result.get("outcomes").and_then(Value::as_object);
        let others = outcomes.into_iter().flatten().filter(|(name, _)| {
            !matches!(name.as_str(), "attempted" | "completed") && wanted(name)
        });
        let counts = others.filter_map(|(name, count)| Some((count.as_u64()?, name.as_str())));
        counts.filter(|(count, _)| *count > 0).collect()
    }

    /// From the first attempt to the last end: what came before the intervals were preparations.
    pub(crate) fn window(&self) -> Option<Window> {
        let started = time_of_day(self.result.get("started_at")?.as_str()?)?;
        let elapsed = self.result.pointer("/evidence/elapsed_ns")?.as_u64()?;
        let intervals = self.result.get("intervals")?.as_array()?.iter();
        let length = intervals.filter_map(|it| it.get("length_ns")?.as_u64()).sum();
        Some(Window { begin: started + elapsed.saturating_sub(length), length })
    }
}

/// A reason is a text that begins with its code, or an object with both.
fn reason(value: &Value) -> Option<String> {
    let field = |name| value.get(name).and_then(Value::as_str);
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => Some(format!("{}: {}", field("code")?, field("text")?)),
    }
}

fn counted(what: &str, endings: &[(u64, &str)]) -> Option<String> {
    let texts: Vec<String> =
        endings.iter().map(|(count, name)| format!("{count} {name}")).collect();
    (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(result: Value) -> LoadgenResult {
        LoadgenResult { result, cores: None }
    }

    #[test]
    fn the_server_and_the_generator_answer_for_their_own() {
        let outcomes = json!({"attempted": 9, "completed": 4, "refused": 3, "never_accepted": 0,
            "fd_limit": 2});
        let outcome = result(json!({"outcomes": outcomes})).outcome();
        assert_eq!(outcome.lost, 3);
        assert_eq!(outcome.server_failure.as_deref(), Some("lost: 3 refused"));
        assert_eq!(outcome.generator_failure.as_deref(), Some("not attempted: 2 fd_limit"));
        let outcome = result(json!({"outcomes": {"attempted": 5, "completed": 5}})).outcome();
        assert_eq!((outcome.server_failure, outcome.generator_failure), (None, None));
    }

    #[test]
    fn a_verdict_is_given_in_its_own_words() {
        let reasons = json!(["a: b", {"code": "c", "text": "d"}]);
        let of = |valid| result(json!({"verdict": {"valid": valid, "reasons": reasons}}));
        assert_eq!(of(false).outcome().generator_failure.as_deref(), Some("a: b; c: d"));
        assert_eq!(of(true).outcome().generator_failure, None);
    }

    #[test]
    fn the_load_ends_with_the_run() {
        let result = result(json!({
            "started_at": "2026-11-23T00:00:01.000Z", "evidence": {"elapsed_ns": 700},
            "intervals": [{"length_ns": 400}, {"length_ns": 200}],
        }));
        assert_eq!(result.window(), Some(Window { begin: 1_000_000_100, length: 600 }));
    }

    #[test]
    fn numbers_are_read_by_pointer() {
        let result = result(json!({"histograms": {"accept_delay": {"p50": 8200, "p99": null}}}));
        assert_eq!(result.number("/histograms/accept_delay/p50"), Some(8200.0));
        assert_eq!(result.number("/histograms/accept_delay/p99"), None);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let result = result(json!({"outcomes": {"attempted": 0, "completed": 300}}));
        assert_eq!(result.per(900.0, "/outcomes/attempted"), None);
        assert_eq!(result.per(900.0, "/outcomes/completed"), Some(3.0));
    }
}
