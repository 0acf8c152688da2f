//! A result as Markdown tables (GitHub's).

use std::fmt::Write;

use super::{headline, units};
use crate::model::histogram::Summary;
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Headline, phases, outcomes and the command.
pub fn render(result: &RunResult) -> String {
    let mut text =
        format!("**{}** {}\n", headline::verdict(result), escaped(&headline::sentence(result)));
    for reason in &result.verdict.reasons {
        line(&mut text, &format!("- `{}`: {}", code(&reason.code), escaped(&reason.text)));
    }
    if !result.histograms.is_empty() {
        text += "\n| phase | count | p50 | p90 | p99 | p99.9 | max |\n";
        text += "|---|---:|---:|---:|---:|---:|---:|\n";
        let known = Phase::ALL.map(Phase::name);
        let others = result.histograms.keys().map(String::as_str).filter(|n| !known.contains(n));
        for name in known.into_iter().chain(others) {
            if let Some(summary) = result.histograms.get(name) {
                line(&mut text, &phase(name, summary, result.clock_bound_ns(name)));
            }
        }
    }
    if result.outcomes.attempted > 0 {
        text += "\n| outcome | attempts | share |\n|---|---:|---:|\n";
        for (name, count) in result.outcomes.ended.iter().filter(|(_, count)| **count > 0) {
            let share = units::percent(*count, result.outcomes.attempted);
            line(&mut text, &format!("| {} | {} | {share} |", escaped(name), units::count(*count)));
        }
    }
    let argv = code(&result.argv.join(" "));
    if !argv.is_empty() {
        line(
            &mut text,
            &format!(
                "\n`{argv}`, {} {}",
                escaped(&result.tool.name),
                escaped(&result.tool.version)
            ),
        );
    }
    text
}

fn phase(name: &str, summary: &Summary, bound_ns: u64) -> String {
    let enough =
        |ns: Option<u64>, needed| units::bounded(ns.filter(|_| summary.count >= needed), bound_ns);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        escaped(name),
        units::count(summary.count),
        enough(summary.p50, 1),
        enough(summary.p90, 10),
        enough(summary.p99, 100),
        enough(summary.p99_9, 1000),
        enough(summary.max, 1)
    )
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes whatever is written to it");
}

/// Text that stays text: no cell ends in it, no tag or link begins.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => shown.push(' '),
            '&' => shown += "&amp;",
            '<' => shown += "&lt;",
            '|' | '\\' | '`' | '*' | '[' | ']' | '!' => shown.extend(['\\', c]),
            c => shown.push(c),
        }
    }
    shown
}

/// Text between backquotes, which nothing escapes.
fn code(text: &str) -> String {
    text.replace('`', "'").replace(['\n', '\r'], " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;

    #[test]
    fn names_cannot_leave_their_cell() {
        let mut result = RunResult { argv: vec!["a`b|c".into()], ..RunResult::default() };
        result.outcomes.attempted = 2;
        result.outcomes.ended.insert("<b>|x|".into(), 2);
        result.histograms.insert("connect".into(), Summary::of(&new_histogram()));
        let text = render(&result);
        assert!(text.contains("| &lt;b>\\|x\\| | 2 | 100.0 % |"), "{text}");
        assert!(text.contains("`a'b\\|c`"), "{text}");
        assert!(text.contains("| connect | 0 | – | – | – | – | – |"), "{text}");
    }
}
