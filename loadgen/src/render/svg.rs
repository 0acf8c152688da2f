//! Pictures as SVG: a canvas of plain shapes, scales that are linear or logarithmic, axes and
//! series on them. It knows nothing of what is drawn.

use std::fmt::{Display, Write};

/// A scale is logarithmic if its highest value is more than this many times its lowest.
const WIDE: f64 = 30.0;
/// Labels of an axis, roughly.
const TICKS: f64 = 4.0;

/// Where on the canvas something begins and ends, in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The position of the lowest value.
    pub from: f64,
    /// The position of the highest value; before `from` where an axis points up.
    pub to: f64,
}

/// From values to positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    span: Span,
}

impl Scale {
    /// Equal differences are equally long.
    #[must_use]
    pub fn linear(low: f64, high: f64, span: Span) -> Self {
        Self { low, high, logarithmic: false, span }
    }

    /// Equal ratios are equally long. Both values are above 0.
    #[must_use]
    pub fn logarithmic(low: f64, high: f64, span: Span) -> Self {
        Self { low, high, logarithmic: true, span }
    }

    /// With room for all of `values`: from 0 on, or logarithmic where they lie far apart.
    #[must_use]
    pub fn fitting(values: &[f64], span: Span) -> Self {
        let high = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let low = values.iter().copied().filter(|value| *value > 0.0).fold(high, f64::min);
        match high / low > WIDE {
            true => Self::logarithmic(low / 1.5, high * 1.15, span),
            false => Self::linear(0.0, high * 1.15, span),
        }
    }

    /// The same values at other positions.
    #[must_use]
    pub fn onto(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Whether equal ratios are equally long.
    #[must_use]
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// The position of `value`; what lies outside is drawn at the edge.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.span.from + share.clamp(0.0, 1.0) * (self.span.to - self.span.from)
    }

    /// Round values along the scale, ascending: powers of ten on a logarithmic one (and twice and
    /// five times those where it has few), else steps of 1, 2 or 5 times a power of ten.
    #[must_use]
    pub fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            return self.powers();
        }
        let step = self.step();
        let first = (self.low / step).ceil() * step;
        let next = |tick: &f64| Some(tick + step).filter(|next| next > tick);
        std::iter::successors(Some(first), next).take_while(|tick| *tick <= self.high).collect()
    }

    fn powers(&self) -> Vec<f64> {
        const FEW: f64 = 150.0;
        let factors: &[f64] = if self.high / self.low < FEW { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = 10f64.powf(self.low.log10().floor());
        let decades = std::iter::successors(Some(first), |power| Some(power * 10.0));
        let decades = decades.take_while(|power| *power <= self.high);
        let ticks = decades.flat_map(|power| factors.iter().map(move |factor| factor * power));
        ticks.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }

    fn step(&self) -> f64 {
        let raw = (self.high - self.low) / TICKS;
        let power = 10f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        steps.into_iter().find(|step| *step >= raw).unwrap_or(raw)
    }
}

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Which part of it is at the position.
    pub anchor: Anchor,
    /// Pixels.
    pub size: f64,
    /// Heavy letters.
    pub bold: bool,
    /// A CSS colour.
    pub colour: &'static str,
}

impl Default for TextStyle {
    fn default() -> Self {
        Self { anchor: Anchor::Start, size: 12.0, bold: false, colour: "#222" }
    }
}

/// Which part of a text is at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its begin.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Stroke {
    /// A CSS colour.
    pub colour: &'static str,
    /// Pixels.
    pub width: f64,
    /// 0 (nothing is seen) to 1.
    pub opacity: f64,
}

/// A position on the canvas, in pixels from the upper left corner.
pub type Point = (f64, f64);

/// A picture that is being drawn.
#[derive(Debug)]
pub struct Canvas {
    text: String,
    /// What is added to every position.
    origin: Point,
}

impl Canvas {
    /// A white canvas of this size in pixels.
    #[must_use]
    pub fn new(width: f64, height: f64) -> Self {
        let mut canvas = Self::transparent(width, height, "");
        canvas.put("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
        canvas
    }

    /// A canvas without a background, whose picture is called `name` (read to those who cannot see
    /// it, unless empty).
    #[must_use]
    pub fn transparent(width: f64, height: f64, name: &str) -> Self {
        let mut canvas = Self { text: String::new(), origin: (0.0, 0.0) };
        let role = match name {
            "" => String::new(),
            name => format!(" role=\"img\" aria-label=\"{}\"", escaped(name)),
        };
        canvas.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"DejaVu Sans, Verdana, sans-serif\"{role}>"
        ));
        canvas
    }

    /// From here on positions count from `origin`.
    pub fn move_origin(&mut self, origin: Point) {
        self.origin = origin;
    }

    /// `words` on one line, whose base line is at `at`.
    pub fn text(&mut self, at: Point, words: &str, style: TextStyle) {
        let (x, y) = self.absolute(at);
        let TextStyle { anchor, size, bold, colour } = style;
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let (anchor, words) = (anchor.name(), escaped(words));
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" \
             text-anchor=\"{anchor}\"{weight}>{words}</text>"
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, stroke: Stroke) {
        self.series(&[from, to], stroke);
    }

    /// Straight lines from point to point.
    pub fn series(&mut self, points: &[Point], stroke: Stroke) {
        let absolute = points.iter().map(|point| self.absolute(*point));
        let points: Vec<String> = absolute.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let Stroke { colour, width, opacity } = stroke;
        let points = points.join(" ");
        self.put(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" stroke-opacity=\"{opacity}\"/>"
        ));
    }

    /// A line of dashes.
    pub fn dashes(&mut self, from: Point, to: Point, stroke: Stroke) {
        let [(x1, y1), (x2, y2)] = [from, to].map(|point| self.absolute(point));
        let Stroke { colour, width, opacity } = stroke;
        self.put(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" stroke-dasharray=\"6 4\"/>"
        ));
    }

    /// A filled shape with these corners.
    pub fn area(&mut self, corners: &[Point], colour: &str, opacity: f64) {
        let absolute = corners.iter().map(|point| self.absolute(*point));
        let points: Vec<String> = absolute.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.put(format_args!(
            "<polygon points=\"{points}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
        ));
    }

    /// Filled rectangles, each from corner to corner, as one element.
    pub fn rectangles(&mut self, corners: &[(Point, Point)], colour: &str, opacity: f64) {
        let mut path = String::new();
        for (one, other) in corners {
            let ((x, y), (right, bottom)) = (self.absolute(*one), self.absolute(*other));
            let (width, height) = (right - x, bottom - y);
            let infallible = write!(path, "M{x:.1} {y:.1}h{width:.1}v{height:.1}H{x:.1}z");
            infallible.expect("a String takes whatever is written to it");
        }
        self.put(format_args!("<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"));
    }

    /// A filled circle.
    pub fn dot(&mut self, at: Point, radius: f64, colour: &str) {
        let (x, y) = self.absolute(at);
        self.put(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
        ));
    }

    /// Labels below a horizontal scale, and a fine line up from each.
    pub fn horizontal_axis(&mut self, scale: &Scale, rows: Span, label: impl Fn(f64) -> String) {
        let style = TextStyle { anchor: Anchor::Middle, size: 10.0, colour: "#666", bold: false };
        for tick in scale.ticks() {
            let x = scale.at(tick);
            self.line((x, rows.from), (x, rows.to), GRID);
            self.text((x, rows.to + style.size), &label(tick), style);
        }
    }

    /// The finished picture.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.put("</svg>");
        self.text
    }

    fn absolute(&self, (x, y): Point) -> Point {
        (self.origin.0 + x, self.origin.1 + y)
    }

    fn put(&mut self, element: impl Display) {
        // A String takes whatever is written to it.
        let _infallible = writeln!(self.text, "{element}");
    }
}

const GRID: Stroke = Stroke { colour: "#e4e4e4", width: 1.0, opacity: 1.0 };

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from: 100.0, to: 300.0 };

    #[test]
    fn near_values_start_at_zero_and_far_ones_are_logarithmic() {
        let near = Scale::fitting(&[10.0, 20.0], SPAN);
        assert!(!near.is_logarithmic());
        assert_eq!(near.at(0.0), SPAN.from);
        let far = Scale::fitting(&[1.0, 1000.0], SPAN);
        assert!(far.is_logarithmic());
        assert_eq!(Scale::logarithmic(1.0, 100.0, SPAN).at(10.0), 200.0);
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge() {
        let scale = Scale::fitting(&[10.0, 20.0], SPAN);
        assert_eq!([scale.at(1e9), scale.at(-5.0)], [SPAN.to, SPAN.from]);
        assert_eq!(Scale::logarithmic(1.0, 10.0, SPAN).at(0.0), SPAN.from);
    }

    #[test]
    fn ticks_are_round_values_within_the_scale() {
        assert_eq!(Scale::linear(0.0, 23.0, SPAN).ticks(), [0.0, 10.0, 20.0]);
        assert_eq!(Scale::linear(3.0, 7.0, SPAN).ticks(), [3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(Scale::logarithmic(5.0, 2000.0, SPAN).ticks(), [10.0, 100.0, 1000.0]);
        assert_eq!(Scale::logarithmic(15.0, 90.0, SPAN).ticks(), [20.0, 50.0]);
    }

    #[test]
    fn words_cannot_end_the_element_they_are_in() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.text((1.0, 2.0), "a < b & c", TextStyle::default());
        let picture = canvas.finish();
        assert!(picture.contains(">a &lt; b &amp; c</text>"), "{picture}");
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    }

    #[test]
    fn positions_count_from_the_origin() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.move_origin((100.0, 50.0));
        canvas.series(&[(0.0, 0.0), (1.0, 2.5)], GRID);
        assert!(canvas.finish().contains("points=\"100.0,50.0 101.0,52.5\""));
    }
}
