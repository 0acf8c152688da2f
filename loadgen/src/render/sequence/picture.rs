//! The sequence picture as SVG.

use super::rows::{Lane, Row, rows};
use super::{footnotes, sentences};
use crate::model::result::RunResult;
use crate::model::trace::Trace;
use crate::render::svg::{Anchor, Canvas, Point, Stroke, TextStyle};

const WIDTH: f64 = 860.0;
const ROW: f64 = 26.0;
/// Above the first row: title, sentences and names of the lanes.
const HEAD: f64 = 40.0;
const LINE: f64 = 18.0;
/// The right edge of the times.
const TIMES: f64 = 90.0;
/// Characters of a line of text.
const CHARACTERS: usize = 115;

const LANE: Stroke = Stroke { colour: "#bbb", width: 1.5, opacity: 1.0 };
const ARROW: Stroke = Stroke { colour: "#1f5fa8", width: 1.5, opacity: 1.0 };
const WAIT: Stroke = Stroke { colour: "#d9480f", width: 5.0, opacity: 0.75 };

/// The picture of a traced connection, a file of its own; without a trace only its title.
pub fn svg(result: &RunResult) -> String {
    let empty = Trace::default();
    let trace = result.trace.as_ref().unwrap_or(&empty);
    let rows = rows(trace);
    let words = wrapped(&sentences(trace));
    let notes = wrapped(&footnotes(trace));
    let top = HEAD + LINE * count(words.len()) + LINE;
    let height = top + ROW * (count(rows.len()) + 1.0) + LINE * (count(notes.len()) + 1.0);
    let mut canvas = Canvas::new(WIDTH, height);
    let bold = TextStyle { size: 16.0, bold: true, ..TextStyle::default() };
    canvas.text((16.0, 26.0), &format!("One connection to {}", result.target.addr), bold);
    paragraph(&mut canvas, HEAD + 6.0, &words);
    canvas.move_origin((0.0, top));
    draw(&mut canvas, &rows);
    paragraph(&mut canvas, ROW * (count(rows.len()) + 1.0) + LINE, &notes);
    canvas.finish()
}

fn draw(canvas: &mut Canvas, rows: &[Row]) {
    let bold = TextStyle { anchor: Anchor::Middle, bold: true, ..TextStyle::default() };
    for lane in Lane::ALL {
        canvas.line((x(lane), 10.0), (x(lane), ROW * (count(rows.len()) + 0.7)), LANE);
        canvas.text((x(lane), 0.0), lane.title(), bold);
    }
    for (index, row) in rows.iter().enumerate() {
        let y = ROW * (count(index) + 1.0);
        match row {
            Row::Wait { text } => wait(canvas, y, text),
            Row::Step { time, lane, to, text } => {
                let end = TextStyle { anchor: Anchor::End, colour: "#666", ..TextStyle::default() };
                canvas.text((TIMES, y + 4.0), time, end);
                let from = x(*lane);
                if let Some(to) = to {
                    arrow(canvas, (from, y), x(*to));
                }
                canvas.dot((from, y), 3.5, ARROW.colour);
                let left = to.map_or(from, |to| from.min(x(to)));
                let above = if to.is_some() { -4.0 } else { 4.0 };
                canvas.text((left + 10.0, y + above), text, TextStyle::default());
            }
        }
    }
}

/// A wait stands beside the kernel's lane: it is in one of the kernel's queues that it is spent.
fn wait(canvas: &mut Canvas, y: f64, text: &str) {
    let kernel = x(Lane::Kernel);
    canvas.line((kernel, y - ROW * 0.5), (kernel, y + ROW * 0.5), WAIT);
    let style = TextStyle { bold: true, colour: WAIT.colour, ..TextStyle::default() };
    canvas.text((kernel + 10.0, y + 4.0), text, style);
}

fn arrow(canvas: &mut Canvas, from: Point, to_x: f64) {
    let (_, y) = from;
    let back = if to_x > from.0 { -7.0 } else { 7.0 };
    canvas.line(from, (to_x, y), ARROW);
    canvas.series(&[(to_x + back, y - 4.0), (to_x, y), (to_x + back, y + 4.0)], ARROW);
}

fn paragraph(canvas: &mut Canvas, top: f64, lines: &[String]) {
    for (index, line) in lines.iter().enumerate() {
        let y = top + LINE * count(index);
        canvas.text((16.0, y + 6.0), line, TextStyle { colour: "#444", ..TextStyle::default() });
    }
}

fn wrapped(sentences: &[String]) -> Vec<String> {
    sentences.iter().flat_map(|text| crate::render::terminal::wrap(text, CHARACTERS, "")).collect()
}

fn x(lane: Lane) -> f64 {
    match lane {
        Lane::Client => 130.0,
        Lane::Kernel => 390.0,
        Lane::Server => 650.0,
    }
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::super::tests::held;
    use super::*;

    #[test]
    fn every_row_and_sentence_is_in_the_picture() {
        let result = RunResult { trace: Some(held()), ..RunResult::default() };
        let picture = svg(&result);
        for part in ["200ms in the queue", "connect(): SYN", "accept() returns", "dropped the SYN"]
        {
            assert!(picture.contains(part), "{part}");
        }
        assert!(picture.ends_with("</svg>\n"));
    }
}
