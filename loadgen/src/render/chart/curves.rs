//! Percentile curves on the axes of HdrHistogram's plots: values over 1/(1−quantile).

use hdrhistogram::Histogram;

use super::{Axis, Chart, Series};
use crate::render::units;

/// Points per halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 6;

/// A histogram of nanoseconds with a name.
#[derive(Debug)]
pub struct Curve {
    /// In the legend.
    pub name: String,
    /// Its samples.
    pub histogram: Histogram<u64>,
}

/// The percentile curves of any number of histograms in one chart. Those without samples are left
/// out.
#[must_use]
pub fn percentiles(title: impl Into<String>, curves: &[Curve]) -> Chart {
    let sampled = || curves.iter().enumerate().filter(|(_, curve)| !curve.histogram.is_empty());
    let most = sampled().map(|(_, curve)| curve.histogram.len()).max().unwrap_or(0);
    let series: Vec<Series> = sampled().map(|(colour, curve)| series(curve, colour)).collect();
    let values = series.iter().flat_map(|series| series.points.iter().map(|(_, y)| *y));
    let y = Axis::logarithmic("time", values.collect::<Vec<_>>(), units::round_duration);
    let mut chart = Chart::new(title, Axis::percentiles(most), y);
    chart.series = series;
    chart
}

/// The last point is the maximum, at the number of samples.
fn series(curve: &Curve, colour: usize) -> Series {
    let end = curve.histogram.len() as f64;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for step in curve.histogram.iter_quantiles(TICKS_PER_HALF) {
        let rarity = (1.0 - step.quantile_iterated_to()).recip().min(end);
        let value = step.value_iterated_to().max(1) as f64;
        match points.last_mut() {
            Some(last) if last.0 >= rarity => last.1 = last.1.max(value),
            _ => points.push((rarity, value)),
        }
    }
    Series { name: curve.name.clone(), colour, points, ..Series::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;

    #[test]
    fn a_curve_rises_from_the_smallest_sample_to_the_largest_at_the_number_of_samples() {
        let mut histogram = new_histogram();
        (1..=1000u64).for_each(|us| histogram.saturating_record(us * 1000));
        let largest = histogram.max() as f64;
        let empty = Curve { name: "empty".into(), histogram: new_histogram() };
        let chart = percentiles("all", &[empty, Curve { name: "full".into(), histogram }]);
        let [series] = &chart.series[..] else { panic!("{:?}", chart.series) };
        assert_eq!((series.name.as_str(), series.colour), ("full", 1), "colours stay");
        assert!(series.points.is_sorted());
        assert_eq!(series.points.last(), Some(&(1000.0, largest)));
    }
}
