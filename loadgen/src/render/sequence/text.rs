//! The sequence picture in characters, 80 columns.

use super::rows::{Lane, Row, rows};
use crate::model::trace::Trace;

/// Columns of the times at the left.
const TIMES: usize = 10;
/// Columns from one lane to the next.
const APART: usize = 25;
/// Columns of a row after the times.
const WIDTH: usize = 2 * APART + 20;

/// The picture, one line per row, and its titles.
pub fn lines(trace: &Trace) -> Vec<String> {
    let mut titles = Line::blank();
    for lane in Lane::ALL {
        titles.put(column(lane), lane.title());
    }
    let mut lines = vec![format!("{:>TIMES$}  {}", "time", titles.text())];
    lines.extend(rows(trace).iter().map(line));
    lines
}

fn column(lane: Lane) -> usize {
    lane as usize * APART
}

fn line(row: &Row) -> String {
    let mut line = Line::blank();
    match row {
        Row::Wait { text } => {
            line.lanes('┊');
            line.put(column(Lane::Kernel) + 2, text);
            format!("{:>TIMES$}  {}", "⋮", line.text())
        }
        Row::Step { time, lane, to, text } => {
            line.lanes('│');
            if let Some(to) = to {
                line.arrow(column(*lane), column(*to));
            }
            line.put(column(*lane), "●");
            let left = to.map_or(*lane, |to| (*lane).min(to));
            let text = if to.is_some() { format!(" {text} ") } else { text.clone() };
            line.put(column(left) + 2, &text);
            format!("{time:>TIMES$}  {}", line.text())
        }
    }
}

/// The characters of a row.
struct Line(Vec<char>);

impl Line {
    fn blank() -> Self {
        Self(vec![' '; WIDTH])
    }

    fn lanes(&mut self, character: char) {
        for lane in Lane::ALL {
            self.0[column(lane)] = character;
        }
    }

    fn put(&mut self, at: usize, text: &str) {
        for (place, character) in self.0[at..].iter_mut().zip(text.chars()) {
            *place = character;
        }
    }

    /// A line from one lane to another, with its head just before the other.
    fn arrow(&mut self, from: usize, to: usize) {
        let (low, high) = (from.min(to), from.max(to));
        for place in &mut self.0[low + 1..high] {
            *place = if *place == ' ' { '─' } else { '┼' };
        }
        if from < to {
            self.0[to - 1] = '▶';
        } else {
            self.0[to + 1] = '◀';
        }
    }

    fn text(&self) -> String {
        self.0.iter().collect::<String>().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::held;
    use super::*;

    #[test]
    fn lanes_stand_below_each_other_and_arrows_lead_from_one_to_the_next() {
        let lines = lines(&held());
        let find = |text: &str| lines.iter().find(|line| line.contains(text)).unwrap();
        assert_eq!(
            find("SYN again"),
            "1000.000ms  ●─ SYN again ───────────▶│                        │"
        );
        assert_eq!(
            find("connect() returns"),
            "1000.014ms  │◀ connect() returns ────●                        │"
        );
        assert_eq!(
            find("in the queue"),
            "         ⋮  ┊                        ┊ 200ms in the queue     ┊"
        );
        assert_eq!(
            find("send 16 bytes"),
            "1200.010ms  ●─ send 16 bytes ────────┼───────────────────────▶│"
        );
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        assert!(lines(&held()).iter().all(|line| line.chars().count() <= 80));
    }
}
