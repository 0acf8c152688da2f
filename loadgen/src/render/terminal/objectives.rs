//! The lines of objectives, and of a condition that ended the run.

use super::{NAMES, Style, WIDTH, entry, wrap};
use crate::model::result::{Aborted, RunResult};
use crate::model::verdict::Slo;
use crate::render::{objectives, units};

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let widest = result.slo.iter().map(|slo| slo.expr.chars().count()).max().unwrap_or(0);
    let objectives = result.slo.iter().map(|slo| objective(slo, widest, style)).collect();
    let mut lines = entry("objectives", objectives);
    lines.extend(entry("aborted", result.aborted.as_ref().map_or_else(Vec::new, aborted)));
    lines
}

fn objective(slo: &Slo, widest: usize, style: Style) -> String {
    let mark = if slo.met { style.paint("1;32", "✓") } else { style.paint("1;31", "✗") };
    format!("{mark} {:<widest$}  {}", slo.expr, objectives::measured(slo))
}

fn aborted(aborted: &Aborted) -> Vec<String> {
    let after = units::duration(aborted.after_ns);
    let value = objectives::value(&aborted.expr, aborted.value);
    let text = format!("--abort-on {} came true after {after}: {value}", aborted.expr);
    wrap(&text, WIDTH - NAMES, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_met_from_missed_and_what_was_not_measured() {
        let slo = |expr: &str, value, met| Slo { expr: expr.into(), value, met };
        let result = RunResult {
            slo: vec![
                slo("refused==0", Some(0.0), true),
                slo("accept_delay.p99<5ms", Some(6e6), false),
                slo("echo_rtt.max<1s", None, false),
            ],
            aborted: Some(Aborted {
                expr: "refused>9".into(),
                value: 10.0,
                after_ns: 2_000_000_000,
            }),
            ..RunResult::default()
        };
        let expected = [
            "objectives    ✓ refused==0            0",
            "              ✗ accept_delay.p99<5ms  6.00ms",
            "              ✗ echo_rtt.max<1s       not measured",
            "aborted       --abort-on refused>9 came true after 2.00s: 10",
        ];
        assert_eq!(lines(&result, Style::default()), expected);
    }
}
