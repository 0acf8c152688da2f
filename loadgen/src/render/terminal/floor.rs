//! The instrument's own floor: as a table, and as a line in the report of a run.

use super::{NAMES, Style, WIDTH, entry, wrap};
use crate::model::floor::{Cost, Floor};
use crate::model::result::RunResult;
use crate::render::floor::sentences;
use crate::render::units;

/// The report of `loadgen calibrate`.
pub fn floor(floor: &Floor, style: Style) -> String {
    let machine = &floor.machine;
    let known = [machine.kernel.as_deref(), machine.cpu.as_deref()].into_iter().flatten();
    let title = format!("the instrument's floor on Linux {}", known.collect::<Vec<_>>().join(", "));
    let mut lines = vec![style.bold(&title), String::new()];
    let header = row("", ["min", "p50", "p99", "max"].map(str::to_owned));
    lines.push(style.bold(&header));
    for (name, cost) in [
        ("reading the clock", Some(floor.clock_read)),
        ("connect", Some(floor.connect)),
        ("connect to accept, at once", Some(floor.accept_delay)),
        ("look at the socket table", floor.lookup),
        ("diag resolution", floor.diag_resolution),
        ("timer wake-up", Some(floor.timer_wakeup)),
    ] {
        let cells = |cost: Cost| [cost.min_ns, cost.p50_ns, cost.p99_ns, cost.max_ns];
        let absent = || ["–", "denied here", "–", "–"].map(str::to_owned);
        lines.push(row(name, cost.map_or_else(absent, |cost| cells(cost).map(units::duration))));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn row(name: &str, cells: [String; 4]) -> String {
    let mut line = format!("{name:<27}");
    cells.iter().for_each(|cell| line += &format!(" {cell:>11}"));
    line
}

/// What a run's report says of it; nothing where it is not known.
pub(super) fn lines(result: &RunResult) -> Vec<String> {
    let sentences = sentences(result);
    let mut lines: Vec<String> =
        sentences.quoted.iter().flat_map(|text| wrap(text, WIDTH - NAMES, "")).collect();
    if let Some(within) = &sentences.within {
        lines.extend(wrap(&format!("! {within}"), WIDTH - NAMES, "  "));
    }
    entry("floor", lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::floor::Machine;
    use crate::model::histogram::{Summary, new_histogram};

    fn a_floor() -> Floor {
        let cost =
            Cost { count: 9, min_ns: 900, p50_ns: 12_000, p99_ns: 80_000, max_ns: 2_000_000 };
        Floor {
            machine: Machine { kernel: Some("6.18".into()), ..Machine::default() },
            measured_at: String::new(),
            clock_read: cost,
            connect: cost,
            accept_delay: cost,
            lookup: None,
            diag_resolution: None,
            timer_wakeup: cost,
        }
    }

    #[test]
    fn a_delay_that_is_not_above_the_floor_is_called_so() {
        let report = |ns: u64| {
            let mut delays = new_histogram();
            (0..100).for_each(|_| delays.saturating_record(ns));
            let histograms = [("accept_delay".into(), Summary::of(&delays))].into();
            let result = RunResult { histograms, floor: Some(a_floor()), ..RunResult::default() };
            lines(&result).join("\n")
        };
        assert!(report(11_000).contains("within the floor at p50 and p99"), "{}", report(11_000));
        assert!(report(50_000).contains("within the floor at p99"), "{}", report(50_000));
        let above = report(90_000);
        assert!(above.contains("takes 12.0µs (p50)") && !above.contains("within"), "{above}");
        assert!(lines(&RunResult::default()).is_empty());
    }

    #[test]
    fn what_is_denied_has_no_number() {
        let text = floor(&a_floor(), Style::default());
        assert!(text.contains("connect to accept, at once        900ns      12.0µs"), "{text}");
        assert!(text.contains("diag resolution                       – denied here"), "{text}");
    }
}
