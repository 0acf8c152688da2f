//! The table of a sweep.

use super::{Style, WIDTH, wrap};
use crate::model::result::RunResult;
use crate::model::sweep::{Spread, Sweep, SweepCell};
use crate::render::table::{
    self,
    Column::{Left, Right},
};
use crate::render::units;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(sweep) = &result.sweep else { return Vec::new() };
    let rounds = units::plural(sweep.rounds.into(), "round");
    let title = format!("loadgen {} sweep: medians of {rounds}", result.tool.version);
    let names = sweep.cells.iter().map(|cell| cell.name.chars().count());
    let width = names.max().unwrap_or(0).max("cell".len());
    let header = ["p50", "p99", "smallest – largest", "completed", "valid"];
    let mut lines = vec![style.bold(&title), String::new()];
    lines.push(style.bold(&row("cell", width, header.map(str::to_owned))));
    lines.extend(sweep.cells.iter().map(|cell| row(&cell.name, width, cells(cell))));
    for note in notes(sweep, result.interrupted) {
        lines.extend(wrap(&format!("! {note}"), WIDTH, "  "));
    }
    lines
}

fn row(name: &str, width: usize, [p50, p99, range, completed, valid]: [String; 5]) -> String {
    let columns = [Left(width), Right(8), Right(8), Left(19), Right(10), Right(5)];
    table::row(&columns, [name, &p50, &p99, &range, &completed, &valid])
}

fn cells(cell: &SweepCell) -> [String; 5] {
    let median = |spread: Option<Spread>| units::maybe(spread.map(|it| whole(it.median)));
    let range = cell.p99.map(|it| {
        format!("{} – {}", units::duration(whole(it.min)), units::duration(whole(it.max)))
    });
    let share = cell.completed_share.map(|share| format!("{:.2} %", 100.0 * share));
    [
        median(cell.p50),
        median(cell.p99),
        range.unwrap_or_else(|| "–".into()),
        share.unwrap_or_else(|| "–".into()),
        format!("{}/{}", cell.valid, cell.rounds),
    ]
}

fn notes(sweep: &Sweep, interrupted: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if interrupted {
        notes.push("interrupted: the same command goes on where it was".to_owned());
    }
    let missed = sweep.cells.iter().filter(|cell| cell.slo_missed > 0);
    notes.extend(missed.map(|cell| {
        let rounds = units::plural(cell.slo_missed, "round");
        format!("{}: an objective was missed in {rounds} of {}", cell.name, cell.rounds)
    }));
    let failed = sweep.cells.iter().filter_map(|cell| Some((cell, cell.failed.as_ref()?)));
    notes.extend(failed.map(|(cell, why)| format!("{}: {why}", cell.name)));
    if sweep.cells.iter().any(|cell| cell.valid < cell.rounds) {
        let note = "rounds that are not VALID are in the medians: see their own reports";
        notes.push(note.into());
    }
    notes
}

fn whole(ns: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "durations are not negative")]
    let whole = ns.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_a_row_and_every_shortcoming_a_note() {
        let spread = Spread { median: 41_200.0, min: 38_000.0, max: 52_000.0 };
        let cell = SweepCell {
            name: "rate=1000,backlog=5".into(),
            rounds: 5,
            valid: 4,
            slo_missed: 1,
            completed_share: Some(0.9987),
            p50: Some(spread),
            p99: Some(spread),
            ..SweepCell::default()
        };
        let failed = Some("the run ended with exit status: 1".into());
        let cells = vec![cell, SweepCell { name: "rate=9".into(), failed, ..SweepCell::default() }];
        let sweep = Some(Sweep { rounds: 5, cells });
        let result = RunResult { sweep, interrupted: true, ..RunResult::default() };
        let text = lines(&result, Style::default()).join("\n");
        for part in [
            "rate=1000,backlog=5   41.2µs   41.2µs  38.0µs – 52.0µs        99.87 %   4/5",
            "rate=9                     –        –  –",
            "! interrupted",
            "! rate=1000,backlog=5: an objective was missed in 1 round of 5",
            "! rate=9: the run ended with",
            "! rounds that are not VALID",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
