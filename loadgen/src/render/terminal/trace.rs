//! The report of one traced connection.

use super::{Style, WIDTH, wrap};
use crate::model::result::RunResult;
use crate::render::sequence;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(trace) = &result.trace else { return Vec::new() };
    let title = format!("loadgen {} trace → {}", result.tool.version, result.target.addr);
    let mut lines = vec![style.bold(&title), String::new()];
    lines.extend(sequence::lines(trace));
    lines.push(String::new());
    let words = sequence::sentences(trace);
    lines.extend(words.iter().flat_map(|text| wrap(text, WIDTH, "")).map(|line| style.bold(&line)));
    let notes = sequence::footnotes(trace);
    lines.extend(notes.iter().flat_map(|text| wrap(text, WIDTH, "")).map(|line| style.dim(&line)));
    lines
}
