//! Objectives of `loadgen run --slo` and conditions of `--abort-on`.

use loadgen::analyse::slo::{AbortCondition, Objective};
use loadgen::model::result::RunResult;

/// Any text is refused with what is allowed, or read as an objective that judges a result and whose
/// text is read as the same one.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<Objective>() {
        Err(error) => assert!(error.to_string().contains(" is no objective: "), "{error}"),
        Ok(objective) => {
            assert_eq!(objective.text().parse().as_ref(), Ok(&objective));
            let judged = objective.judge(&RunResult::default());
            assert!(judged.value.is_some() || !judged.met, "{judged:?}");
        }
    }
    if let Ok(condition) = text.parse::<AbortCondition>() {
        let aborted = condition.check(&RunResult::default(), u64::MAX);
        assert!(aborted.is_none_or(|aborted| aborted.expr == text), "{text:?}");
    }
}
