//! Histograms of nanoseconds, all with the same bounds, so that any of them merge exactly.

mod payload;

pub use payload::Count;

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use self::payload::V2_COMPRESSED_COOKIE;

/// Smallest value of every histogram, nanoseconds.
pub const LOWEST_NS: u64 = 1;
/// Largest value of every histogram, nanoseconds: 300 s. Larger values are clipped and counted.
pub const HIGHEST_NS: u64 = 300_000_000_000;
/// Significant digits of every histogram.
pub const DIGITS: u8 = 3;

/// An empty histogram with the bounds that all results share.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).expect("constant bounds are valid")
}

/// A quantile of a histogram; `None` without samples.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile))
}

/// A histogram in the result file: statistics to read, and the encoded histogram to merge.
/// Statistics are absent without samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Always `ns`.
    pub unit: String,
    /// Samples.
    pub count: u64,
    /// Smallest sample.
    pub min: Option<u64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// 99.9th percentile.
    pub p99_9: Option<u64>,
    /// 99.99th percentile.
    pub p99_99: Option<u64>,
    /// Largest sample.
    pub max: Option<u64>,
    /// The encoded histogram: HdrHistogram V2, DEFLATE, base64.
    pub hdr_v2_deflate_base64: String,
}

/// Why the payload of a [`Summary`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// Not base64, not DEFLATE, or not HdrHistogram V2.
    #[error("the histogram's payload is damaged: {0}")]
    Damaged(String),
    /// Other bounds or another precision, which would not merge exactly.
    #[error(
        "the histogram has other bounds ({low} to {high}, {digits} digits) than this program's \
         ({LOWEST_NS} to {HIGHEST_NS} ns, {DIGITS} digits), so it cannot be merged exactly"
    )]
    Bounds {
        /// Its smallest value.
        low: u64,
        /// Its largest value.
        high: u64,
        /// Its significant digits.
        digits: u8,
    },
}

impl Summary {
    /// Summarises a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let sampled = !histogram.is_empty();
        let at = |q| quantile(histogram, q);
        Self {
            unit: "ns".into(),
            count: histogram.len(),
            min: sampled.then(|| histogram.min()),
            mean: sampled.then(|| histogram.mean()),
            stdev: sampled.then(|| histogram.stdev()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: sampled.then(|| histogram.max()),
            hdr_v2_deflate_base64: PackedHistogram::of(histogram).hdr_v2_deflate_base64(),
        }
    }

    /// The histogram itself.
    ///
    /// # Errors
    /// [`HistogramError`] when the payload is damaged or has other bounds.
    pub fn histogram(&self) -> Result<Histogram<u64>, HistogramError> {
        of_counts(&self.counts()?)
    }

    /// Its values with samples, ascending: much smaller than the histogram where there are few.
    ///
    /// # Errors
    /// [`HistogramError`] when the payload is damaged or has other bounds.
    pub fn counts(&self) -> Result<Vec<Count>, HistogramError> {
        payload::decode(&self.hdr_v2_deflate_base64)
    }
}

/// The histogram with these values.
///
/// # Errors
/// [`HistogramError::Damaged`] where a value is beyond the bounds.
pub fn of_counts(counts: &[Count]) -> Result<Histogram<u64>, HistogramError> {
    let mut histogram = new_histogram();
    for (value, count) in counts {
        let recorded = histogram.record_n(*value, *count);
        recorded.map_err(|error| HistogramError::Damaged(error.to_string()))?;
    }
    Ok(histogram)
}

/// A histogram encoded during the run to save memory. Compressing it takes ten times as long and is
/// therefore done after the run.
#[derive(Debug, Clone)]
pub struct PackedHistogram {
    /// HdrHistogram V2.
    v2: Vec<u8>,
}

impl PackedHistogram {
    /// Encodes a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut v2 = Vec::new();
        let written = V2Serializer::new().serialize(histogram, &mut v2);
        written.expect("a vector takes every write and the bounds fit the format");
        Self { v2 }
    }

    /// Decodes the histogram.
    pub fn unpack(&self) -> Histogram<u64> {
        let read = Deserializer::new().deserialize(&mut self.v2.as_slice());
        read.expect("only histograms are packed")
    }

    /// HdrHistogram V2, DEFLATE, base64: the payload that readers of interval logs accept.
    fn hdr_v2_deflate_base64(&self) -> String {
        let mut compressor = ZlibEncoder::new(Vec::new(), Compression::default());
        let deflated = compressor.write_all(&self.v2).and_then(|()| compressor.finish());
        let deflated = deflated.expect("a vector takes every write");
        let len = u32::try_from(deflated.len()).expect("an encoded histogram is small");
        let head = [V2_COMPRESSED_COOKIE.to_be_bytes(), len.to_be_bytes()].concat();
        STANDARD.encode([head, deflated].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_samples() -> Histogram<u64> {
        let mut histogram = new_histogram();
        [3, 4_000, 5_000_000].iter().for_each(|&ns| histogram.saturating_record(ns));
        histogram
    }

    #[test]
    fn a_summary_holds_the_whole_histogram() {
        let summary = Summary::of(&three_samples());
        assert_eq!(summary.histogram().unwrap(), three_samples());
        assert_eq!((summary.count, summary.min, summary.max), (3, Some(3), Some(5_001_215)));
        assert_eq!(PackedHistogram::of(&three_samples()).unpack(), three_samples());
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        let summary = Summary::of(&new_histogram());
        assert_eq!((summary.count, summary.p50, summary.max, summary.mean), (0, None, None, None));
        assert!(summary.histogram().unwrap().is_empty());
    }

    #[test]
    fn damaged_payloads_and_other_bounds_are_different_errors() {
        let payload = |text: &str| Summary {
            hdr_v2_deflate_base64: text.into(),
            ..Summary::of(&new_histogram())
        };
        for text in ["", "!!", "HISTFAAAABx42pNpmSzMwMDAxAABzFCaEUoz2X"] {
            let read = payload(text).histogram();
            assert!(matches!(read, Err(HistogramError::Damaged(_))), "{text}: {read:?}");
        }
        let other = Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
        let read = Summary::of(&other).histogram();
        assert!(matches!(read, Err(HistogramError::Bounds { digits: 2, .. })), "{read:?}");
    }
}
