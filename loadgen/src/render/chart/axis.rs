//! An axis: a scale with a title and labels.

use crate::render::svg::{Scale, Span};

/// Positions are given when it is drawn.
const UNPLACED: Span = Span { from: 0.0, to: 1.0 };

/// An axis of a chart.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What is measured, and in which unit where the labels have none.
    pub title: String,
    pub(super) scale: Scale,
    labels: Labels,
}

#[derive(Debug, Clone)]
enum Labels {
    /// Round values, written by this.
    Round(fn(f64) -> String),
    Given(Vec<(f64, String)>),
}

impl Axis {
    /// From `low` to `high`; equal differences are equally long.
    #[must_use]
    pub fn linear(title: impl Into<String>, low: f64, high: f64, label: fn(f64) -> String) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self::round(title, Scale::linear(low, high, UNPLACED), label)
    }

    /// With room for all of `values`: from 0 on, or logarithmic where they lie far apart.
    #[must_use]
    pub fn fitting(
        title: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Self {
        let mut values: Vec<f64> = finite(values);
        if values.is_empty() {
            values.push(1.0);
        }
        Self::round(title, Scale::fitting(&values, UNPLACED), label)
    }

    /// With room for all of `values`, of which those above 0 count; equal ratios are equally long.
    #[must_use]
    pub fn logarithmic(
        title: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Self {
        let values: Vec<f64> = finite(values).into_iter().filter(|value| *value > 0.0).collect();
        let high = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let low = values.iter().copied().fold(high, f64::min);
        let (low, high) = if values.is_empty() { (1.0, 10.0) } else { (low / 1.2, high * 1.2) };
        Self::round(title, Scale::logarithmic(low, high, UNPLACED), label)
    }

    /// The share of the samples, so that each further nine is equally long. A quantile q of
    /// `samples` is at 1/(1−q), its end at their number.
    #[must_use]
    pub fn percentiles(samples: u64) -> Self {
        let end = (samples as f64).max(10.0);
        let names = ["0%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
        let powers = std::iter::successors(Some(1.0), |power| Some(power * 10.0));
        let given = powers.zip(names).take_while(|(power, _)| *power <= end);
        Self {
            title: "percentile".into(),
            scale: Scale::logarithmic(1.0, end, UNPLACED),
            labels: Labels::Given(given.map(|(at, name)| (at, name.to_owned())).collect()),
        }
    }

    fn round(title: impl Into<String>, scale: Scale, label: fn(f64) -> String) -> Self {
        Self { title: title.into(), scale, labels: Labels::Round(label) }
    }

    /// Values with their labels, ascending.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match &self.labels {
            Labels::Given(ticks) => ticks.clone(),
            Labels::Round(label) => {
                self.scale.ticks().into_iter().map(|tick| (tick, label(tick))).collect()
            }
        }
    }
}

fn finite(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    values.into_iter().filter(|value| value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_labelled_as_far_as_there_are_samples() {
        let names = |samples| {
            let ticks = Axis::percentiles(samples).ticks();
            ticks.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(30_000), ["0%", "90%", "99%", "99.9%", "99.99%"]);
        assert_eq!(names(0), ["0%", "90%"]);
    }

    #[test]
    fn values_that_are_none_do_not_count() {
        let shown = |axis: Axis| axis.ticks().len();
        let label = |value: f64| value.to_string();
        assert!(shown(Axis::fitting("", [f64::NAN, f64::INFINITY], label)) > 0);
        assert!(shown(Axis::logarithmic("", [0.0, -1.0], label)) > 0);
        assert!(shown(Axis::linear("", 5.0, 5.0, label)) > 0);
    }
}
