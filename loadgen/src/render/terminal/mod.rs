//! A result as text, for terminals of 80 columns and more.

mod comparison;
mod floor;
mod found;
mod hold;
mod objectives;
mod run;
mod sweep;
mod torture;
mod trace;
mod transport;
mod verdict;
mod watch;

pub use floor::floor;
pub use found::{found, objective};
pub use torture::{case_row, torture_counts};
pub use watch::listeners;

use std::path::PathBuf;

use crate::model::result::{Kind, RunResult};

/// Columns used.
const WIDTH: usize = 80;
/// Columns of the names at the left.
const NAMES: usize = 14;

/// Whether to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// ANSI escape sequences.
    pub color: bool,
}

impl Style {
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole report, in the form of the command that the result came of.
pub fn report(result: &RunResult, style: Style) -> String {
    let lines = match result.kind {
        Kind::Hold => hold::lines(result, style),
        Kind::Torture => torture::lines(result),
        Kind::Trace => trace::lines(result, style),
        Kind::Comparison => comparison::lines(result, style),
        Kind::Sweep => sweep::lines(result, style),
        Kind::Watch => watch::lines(result, style),
        Kind::Run => run::lines(result, style),
    };
    joined(lines)
}

/// What follows the report once everything is over: what failed afterwards, and the files.
pub fn afterwards(problems: &[String], files: &[PathBuf], style: Style) -> String {
    let mut lines = Vec::new();
    for problem in problems {
        lines.extend(wrap(&format!("✗ {problem}"), WIDTH - NAMES, "  "));
    }
    if let Some(first) = lines.first_mut() {
        *first = style.paint("1;31", first);
    }
    let mut lines = entry("problems", lines);
    lines.extend(entry("files", files.iter().map(|file| file.display().to_string()).collect()));
    joined(lines)
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Lines under a name at the left; nothing without lines.
fn entry(name: &str, lines: Vec<String>) -> Vec<String> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines).map(|(name, line)| format!("{name:<NAMES$}{line}")).collect()
}

/// An entry of text, broken into lines that fit.
fn paragraph(name: &str, text: &str) -> Vec<String> {
    entry(name, wrap(text, WIDTH - NAMES, ""))
}

/// Breaks at spaces; a single longer word stays whole.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a last line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_stay_whole_and_lines_stay_narrow() {
        let lines = wrap("a bb ccc dddddddddd e", 6, "  ");
        assert_eq!(lines, ["a bb", "  ccc", "  dddddddddd", "  e"]);
    }

    #[test]
    fn names_stand_only_beside_the_first_line() {
        let lines = entry("cpu", vec!["a".into(), "b".into()]);
        assert_eq!(lines, ["cpu           a", "              b"]);
        assert!(entry("cpu", vec![]).is_empty());
    }

    #[test]
    fn what_failed_afterwards_stands_before_the_files() {
        let text = afterwards(&["the disk is full".into()], &["a/b".into()], Style::default());
        assert_eq!(text, "problems      ✗ the disk is full\nfiles         a/b\n");
        assert_eq!(afterwards(&[], &[], Style::default()), "");
    }
}
