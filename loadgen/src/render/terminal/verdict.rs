//! Whether the numbers can be trusted, and what was noticed.

use super::{NAMES, Style, WIDTH, entry, wrap};
use crate::model::outcome::Outcome;
use crate::model::result::RunResult;
use crate::render::findings;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let text = &result.verdict;
    let clean = text.valid && result.outcomes.of(Outcome::Completed) == result.outcomes.finished();
    let code = match (text.valid, clean) {
        (false, _) => "1;31",
        (true, false) => "1;33",
        (true, true) => "1;32",
    };
    let headline = wrap(&findings::headline(result), WIDTH - NAMES, "  ");
    let mut lines: Vec<String> = headline.iter().map(|line| style.paint(code, line)).collect();
    let reasons = text.reasons.iter().map(|finding| ('✗', finding));
    for (mark, finding) in reasons.chain(text.advice.iter().map(|finding| ('!', finding))) {
        let sentence = format!("{mark} {}: {}", finding.code, finding.text);
        lines.extend(wrap(&sentence, WIDTH - NAMES, "  "));
    }
    entry("verdict", lines)
}
