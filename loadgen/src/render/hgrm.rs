//! `accept_delay.hgrm`: the percentile table that HdrHistogram's plotters read (hdr-plot,
//! plotFiles). Values are milliseconds, which those label by default, with all nanoseconds kept.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::model::histogram::{HistogramError, new_histogram};
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Lines per halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;

/// The table of a result's accept_delay.
///
/// # Errors
/// [`HistogramError`] where the histogram cannot be read.
pub fn of(result: &RunResult) -> Result<String, HistogramError> {
    match result.sampled(Phase::AcceptDelay) {
        Some(summary) => summary.histogram().map(|histogram| render(&histogram)),
        None => Ok(render(&new_histogram())),
    }
}

/// The table of a histogram of nanoseconds.
fn render(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>16} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total: u64 = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let value = millis(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        write!(text, "{value:>16.6} {quantile:>14.12} {total:>10}").expect("writing to a string");
        if quantile < 1.0 {
            write!(text, " {:>14.2}", (1.0 - quantile).recip()).expect("writing to a string");
        }
        text.push('\n');
    }
    text + &footer(histogram)
}

fn footer(histogram: &Histogram<u64>) -> String {
    let sub_buckets = 2 * 10u32.pow(histogram.sigfig().into());
    format!(
        "#[Mean    = {:>16.6}, StdDeviation   = {:>16.6}]\n\
         #[Max     = {:>16.6}, Total count    = {:>16}]\n\
         #[Buckets = {:>16}, SubBuckets     = {:>16}]\n\
         #[Unit    = milliseconds]\n",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6,
        millis(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        sub_buckets.next_power_of_two()
    )
}

#[expect(clippy::cast_precision_loss, reason = "values end at 300 s, far below 53 bits")]
fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_at_the_maximum_with_everything_counted() {
        let mut histogram = new_histogram();
        (1..=1000).for_each(|us| histogram.saturating_record(us * 1000));
        let text = render(&histogram);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter(|l| l.starts_with(' ') && !l.contains("Value"))
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert!(rows.iter().rev().skip(1).all(|row| row.len() == 4), "{text}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), ("1.000000000000", "1000"));
        assert_eq!(last.len(), 3, "100 % has no distance to itself");
        assert!(text.contains("Total count    =             1000]"), "{text}");
        assert!(text.contains("SubBuckets     =             2048]"), "{text}");
        assert!(text.ends_with("#[Unit    = milliseconds]\n"));
    }

    #[test]
    fn no_samples_make_an_empty_table() {
        let text = render(&new_histogram());
        assert!(text.contains("Total count    =                0]"), "{text}");
    }
}
