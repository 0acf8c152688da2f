//! Charts as SVG: named series, bands, limits and cells on two axes, linear or logarithmic. Every
//! picture of a result is one of these; `curves` has the percentile curves.

mod axis;
mod curves;
mod theme;

pub use axis::Axis;
pub use curves::{Curve, percentiles};
pub use theme::Theme;

use super::svg::{Anchor, Canvas, Point, Scale, Span, Stroke, TextStyle};
use super::terminal::wrap;

/// Pixels of a chart: small enough that a phone shows its text at a readable size.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
/// Above the plot: the title of the vertical axis.
const TOP: f64 = 26.0;
const TITLE_LINE: f64 = 18.0;
/// Between the title and what is below it.
const TITLE_GAP: f64 = 6.0;
const TITLE_LEFT: f64 = 14.0;
/// Letters of a line of the title that fit: bold ones of its size are up to 8.7 pixels wide, in the
/// widest fonts that a viewer may take.
const TITLE_LETTERS: usize = 52;
/// Labels and title of the horizontal axis.
const BOTTOM: f64 = 40.0;
const SMALL: f64 = 11.0;
const LEGEND_LINE: f64 = 17.0;
/// Width of a letter of the legend, on average and on the safe side.
const LETTER: f64 = 6.9;
const SWATCH: f64 = 22.0;
/// Steps of the intensity of cells.
const SHADES: u8 = 8;

/// Values with a name.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In the legend; without one it has no entry there.
    pub name: String,
    /// Which of the theme's colours; they repeat.
    pub colour: usize,
    /// Ascending in x.
    pub points: Vec<Point>,
    /// x, lowest and highest y: an uncertainty or a range around the line.
    pub band: Vec<(f64, f64, f64)>,
    /// How the points are drawn.
    pub mark: Mark,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// Straight from point to point.
    #[default]
    Line,
    /// A value holds until the next.
    Steps,
    /// A dot each.
    Dots,
    /// Dots, with lines between them.
    DotsAndLine,
}

/// A value of y that has a meaning of its own.
#[derive(Debug, Clone)]
pub struct Limit {
    /// In the legend.
    pub name: String,
    /// The value.
    pub y: f64,
}

/// A rectangle whose intensity is a value.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// From and to.
    pub x: (f64, f64),
    /// From and to.
    pub y: (f64, f64),
    /// 0 to 1.
    pub intensity: f64,
}

/// A chart before it is drawn.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Whether the title is drawn; it is always read to those who cannot see the picture.
    pub titled: bool,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Drawn in this order.
    pub series: Vec<Series>,
    /// Dashed horizontal lines.
    pub limits: Vec<Limit>,
    /// Below the series.
    pub cells: Vec<Cell>,
}

impl Chart {
    /// An empty chart.
    #[must_use]
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        let title = title.into();
        let (series, limits, cells) = (Vec::new(), Vec::new(), Vec::new());
        Self { title, titled: false, x, y, series, limits, cells }
    }

    /// The picture.
    #[must_use]
    pub fn svg(&self, theme: &Theme) -> String {
        let legend = Legend::of(self);
        let titles = if self.titled { wrap(&self.title, TITLE_LETTERS, "") } else { Vec::new() };
        let title = titles.len() as f64 * TITLE_LINE + if self.titled { TITLE_GAP } else { 0.0 };
        let head = title + legend.height();
        let height = HEIGHT + head;
        let mut canvas = Canvas::transparent(WIDTH, height, &self.title);
        if let Some(paper) = theme.paper {
            canvas.area(&[(0.0, 0.0), (WIDTH, 0.0), (WIDTH, height), (0.0, height)], paper, 1.0);
        }
        for (line, text) in titles.iter().enumerate() {
            let style = TextStyle { size: 14.0, bold: true, ..theme.text(Anchor::Start) };
            canvas.text((TITLE_LEFT, TITLE_LINE * (line as f64 + 1.0)), text, style);
        }
        canvas.move_origin((0.0, title));
        legend.draw(&mut canvas, theme);
        canvas.move_origin((0.0, 0.0));
        let frame = Frame::of(self, head, height);
        frame.axes(&mut canvas, self, theme);
        frame.cells(&mut canvas, &self.cells, theme);
        self.limits.iter().for_each(|limit| frame.limit(&mut canvas, limit, theme));
        self.series.iter().for_each(|series| frame.series(&mut canvas, series, theme));
        canvas.finish()
    }
}

/// Where the values lie on the canvas.
struct Frame {
    x: Scale,
    y: Scale,
    columns: Span,
    /// From the top to the bottom.
    rows: Span,
}

impl Frame {
    fn of(chart: &Chart, head: f64, height: f64) -> Self {
        let columns = Span { from: LEFT, to: WIDTH - RIGHT };
        let rows = Span { from: head + TOP, to: height - BOTTOM };
        let upwards = Span { from: rows.to, to: rows.from };
        Self { x: chart.x.scale.onto(columns), y: chart.y.scale.onto(upwards), columns, rows }
    }

    fn at(&self, (x, y): Point) -> Point {
        (self.x.at(x), self.y.at(y))
    }

    fn axes(&self, canvas: &mut Canvas, chart: &Chart, theme: &Theme) {
        let grid = Stroke { colour: theme.grid, width: 1.0, opacity: 1.0 };
        let dim = |anchor| TextStyle { size: SMALL, colour: theme.dim, ..theme.text(anchor) };
        for (value, label) in chart.y.ticks() {
            let y = self.y.at(value);
            canvas.line((self.columns.from, y), (self.columns.to, y), grid);
            canvas.text((LEFT - 6.0, y + 4.0), &label, dim(Anchor::End));
        }
        for (value, label) in chart.x.ticks() {
            let x = self.x.at(value);
            canvas.line((x, self.rows.from), (x, self.rows.to), grid);
            let centred = x.min(WIDTH - RIGHT - label.chars().count() as f64 * 2.0);
            canvas.text((centred, self.rows.to + 14.0), &label, dim(Anchor::Middle));
        }
        let below = self.rows.to + 31.0;
        canvas.text((self.columns.to, below), &chart.x.title, dim(Anchor::End));
        let above = self.rows.from - 9.0;
        canvas.text((4.0, above), &chart.y.title, dim(Anchor::Start));
    }

    /// One element for all cells of a shade.
    fn cells(&self, canvas: &mut Canvas, cells: &[Cell], theme: &Theme) {
        for shade in 1..=SHADES {
            let these = cells.iter().filter(|cell| shade_of(cell.intensity) == shade);
            let corners =
                these.map(|cell| (self.at((cell.x.0, cell.y.1)), self.at((cell.x.1, cell.y.0))));
            let corners: Vec<(Point, Point)> = corners.collect();
            if !corners.is_empty() {
                let opacity = 0.12 + 0.88 * f64::from(shade) / f64::from(SHADES);
                canvas.rectangles(&corners, theme.heat, opacity);
            }
        }
    }

    fn limit(&self, canvas: &mut Canvas, limit: &Limit, theme: &Theme) {
        let y = self.y.at(limit.y);
        let stroke = Stroke { colour: theme.limit, width: 1.5, opacity: 1.0 };
        canvas.dashes((self.columns.from, y), (self.columns.to, y), stroke);
    }

    fn series(&self, canvas: &mut Canvas, series: &Series, theme: &Theme) {
        let colour = theme.series(series.colour);
        let points: Vec<Point> = series.points.iter().map(|point| self.at(*point)).collect();
        if !series.band.is_empty() {
            let upper = series.band.iter().map(|(x, _, high)| self.at((*x, *high)));
            let lower = series.band.iter().rev().map(|(x, low, _)| self.at((*x, *low)));
            canvas.area(&upper.chain(lower).collect::<Vec<_>>(), colour, 0.2);
        }
        let stroke = Stroke { colour, width: 2.0, opacity: 1.0 };
        match series.mark {
            Mark::Line | Mark::DotsAndLine => canvas.series(&points, stroke),
            Mark::Steps => canvas.series(&steps(&points), stroke),
            Mark::Dots => {}
        }
        let dots = matches!(series.mark, Mark::Dots | Mark::DotsAndLine) || points.len() == 1;
        for point in points.iter().filter(|_| dots) {
            canvas.dot(*point, 3.5, colour);
        }
    }
}

/// Each value holds until the next.
fn steps(points: &[Point]) -> Vec<Point> {
    let corners = points.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(points.last().copied()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
#[expect(clippy::cast_sign_loss, reason = "an intensity is not negative")]
fn shade_of(intensity: f64) -> u8 {
    ((intensity * f64::from(SHADES)).ceil() as u8).min(SHADES)
}

/// The names of series and limits, in lines that fit.
struct Legend<'a> {
    entries: Vec<(Point, &'a str, Option<usize>)>,
    lines: u32,
}

impl<'a> Legend<'a> {
    fn of(chart: &'a Chart) -> Self {
        let series = chart.series.iter().map(|series| (&series.name, Some(series.colour)));
        let limits = chart.limits.iter().map(|limit| (&limit.name, None));
        let mut legend = Self { entries: Vec::new(), lines: 0 };
        let mut x = f64::INFINITY;
        for (name, colour) in series.chain(limits).filter(|(name, _)| !name.is_empty()) {
            let width = SWATCH + name.chars().count() as f64 * LETTER + 12.0;
            if x + width > WIDTH {
                (x, legend.lines) = (LEFT, legend.lines + 1);
            }
            legend.entries.push(((x, f64::from(legend.lines) * LEGEND_LINE), name, colour));
            x += width;
        }
        legend
    }

    fn height(&self) -> f64 {
        f64::from(self.lines) * LEGEND_LINE
    }

    fn draw(&self, canvas: &mut Canvas, theme: &Theme) {
        for ((x, y), name, colour) in &self.entries {
            let (from, to) = ((*x, y - 4.0), (x + SWATCH - 6.0, y - 4.0));
            match colour {
                Some(index) => {
                    let colour = theme.series(*index);
                    canvas.line(from, to, Stroke { colour, width: 3.0, opacity: 1.0 });
                }
                None => {
                    let stroke = Stroke { colour: theme.limit, width: 1.5, opacity: 1.0 };
                    canvas.dashes(from, to, stroke);
                }
            }
            let style = TextStyle { size: SMALL, ..theme.text(Anchor::Start) };
            canvas.text((x + SWATCH, *y), name, style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::units;

    fn chart() -> Chart {
        let label = units::rate;
        let x = Axis::linear("time", 0.0, 10.0, label);
        Chart::new("a <b>", x, Axis::fitting("delay", [1.0, 1000.0], label))
    }

    #[test]
    fn series_limits_bands_and_cells_are_drawn_and_named() {
        let mut chart = chart();
        let band = vec![(0.0, 1.0, 10.0), (10.0, 5.0, 50.0)];
        let points = vec![(0.0, 5.0), (10.0, 20.0)];
        let name = "p99 & \"more\"".to_owned();
        chart.series.push(Series {
            name,
            points,
            band,
            mark: Mark::DotsAndLine,
            ..Series::default()
        });
        chart.limits.push(Limit { name: "limit".into(), y: 100.0 });
        chart.cells.push(Cell { x: (0.0, 1.0), y: (1.0, 2.0), intensity: 0.5 });
        let picture = chart.svg(&Theme::LIGHT);
        for part in ["aria-label=\"a &lt;b>\"", "p99 &amp; &quot;more&quot;", "stroke-dasharray"] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        for (element, count) in [("<polygon", 2), ("<circle", 2), ("fill-opacity=\"0.56\"", 1)] {
            assert_eq!(picture.matches(element).count(), count, "{element}: {picture}");
        }
        assert!(!picture.contains(">a &lt;b></text>"), "the title is drawn only where asked for");
        chart.titled = true;
        assert!(chart.svg(&Theme::PAGE).contains(">a &lt;b></text>"));
    }

    #[test]
    fn long_legends_are_broken_into_lines() {
        let mut chart = chart();
        let series = |index| Series { name: format!("series number {index}"), ..Series::default() };
        chart.series = (0..7).map(series).collect();
        let legend = Legend::of(&chart);
        assert!(legend.lines > 1);
        for ((x, _), name, _) in &legend.entries {
            assert!(x + SWATCH + name.len() as f64 * LETTER <= WIDTH, "{name} at {x}");
        }
    }

    #[test]
    fn a_long_title_is_broken_into_lines_that_push_the_rest_down() {
        let mut long = chart();
        long.title = "accept_delay.p99<10ms, ".repeat(6).trim_end().to_owned();
        let titles = |chart: &Chart| -> Vec<usize> {
            let picture = chart.svg(&Theme::LIGHT).replace("&lt;", "<");
            let texts = picture.split("<text").skip(1).filter_map(|text| text.split_once('>'));
            let shown = texts.filter_map(|(_, text)| text.split_once("</text>"));
            let title = shown.map(|(text, _)| text).filter(|text| text.contains("p99<10ms"));
            title.map(|text| text.chars().count()).collect()
        };
        assert_eq!(titles(&long), Vec::<usize>::new(), "it is not drawn");
        long.titled = true;
        assert!(titles(&long).len() > 1, "{}", long.svg(&Theme::LIGHT));
        assert!(titles(&long).iter().all(|length| *length <= TITLE_LETTERS));
        let height = |lines: f64| format!("viewBox=\"0 0 480 {}\"", HEIGHT + lines);
        let title = titles(&long).len() as f64 * TITLE_LINE + TITLE_GAP;
        assert!(long.svg(&Theme::LIGHT).contains(&height(title)), "{}", long.svg(&Theme::LIGHT));
    }

    #[test]
    fn a_value_holds_until_the_next() {
        assert_eq!(steps(&[(0.0, 1.0), (2.0, 5.0)]), [(0.0, 1.0), (2.0, 1.0), (2.0, 5.0)]);
        assert!(steps(&[]).is_empty());
    }

    #[test]
    fn a_chart_without_values_is_drawn_all_the_same() {
        let empty = Axis::fitting("nothing", [], units::rate);
        let picture = Chart::new("empty", empty.clone(), empty).svg(&Theme::LIGHT);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
