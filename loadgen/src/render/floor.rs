//! What a result says of the instrument's own floor, in words.

use super::units;
use crate::model::floor::Cost;
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Nothing where the floor is not known.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    /// What it is.
    pub(super) quoted: Option<String>,
    /// Where accept_delay is not above it.
    pub(super) within: Option<String>,
}

/// What `loadgen calibrate` found, beside what was measured.
pub(super) fn sentences(result: &RunResult) -> Sentences {
    let Some(floor) = &result.floor else { return Sentences::default() };
    let delay = &floor.accept_delay;
    let quoted = format!(
        "connect to accept at once takes {} (p50) and {} (p99) here, a timer wake-up {}",
        units::duration(delay.p50_ns),
        units::duration(delay.p99_ns),
        units::duration(floor.timer_wakeup.p50_ns)
    );
    Sentences { quoted: Some(quoted), within: within(result, delay) }
}

fn within(result: &RunResult, floor: &Cost) -> Option<String> {
    let summary = result.sampled(Phase::AcceptDelay)?;
    let not_above = [("p50", summary.p50, floor.p50_ns), ("p99", summary.p99, floor.p99_ns)];
    let names: Vec<&str> = not_above
        .iter()
        .filter(|(_, value, floor)| value.is_some_and(|value| value <= *floor))
        .map(|(name, ..)| *name)
        .collect();
    (!names.is_empty()).then(|| {
        let names = names.join(" and ");
        format!("accept_delay is within the floor at {names}: this machine, not the server")
    })
}
