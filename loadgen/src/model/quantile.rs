//! A quantile by the name that people and result files give it: `p99`, `p99.9` or `p99_9`.

use std::fmt;
use std::str::FromStr;

/// A share of the samples, from p0, the smallest, to p100, the largest.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Quantile {
    /// 0 to 100.
    percent: f64,
    /// The nearest number to a hundredth of it: percent / 100.0 is one above that of 99.9, and
    /// would be another sample.
    share: f64,
}

/// A text that is no quantile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected a percentile from p0 to p100, such as p50, p99 or p99.9")]
pub struct QuantileError(String);

impl Quantile {
    /// The median.
    pub const P50: Self = Self { percent: 50.0, share: 0.5 };
    /// 99 % of the samples are not above it.
    pub const P99: Self = Self { percent: 99.0, share: 0.99 };

    /// From 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        self.share
    }

    /// Samples of which about one lies beyond it; with fewer it is one of the extremes.
    #[must_use]
    pub fn samples_needed(self) -> f64 {
        100.0 / self.percent.min(100.0 - self.percent).max(f64::MIN_POSITIVE)
    }
}

impl FromStr for Quantile {
    type Err = QuantileError;

    fn from_str(text: &str) -> Result<Self, QuantileError> {
        let digits = text.strip_prefix('p').map(|digits| digits.replace('_', "."));
        let plain = |digits: &String| digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let read = |digits: String| {
            let (percent, share) = (digits.parse().ok()?, format!("{digits}e-2").parse().ok()?);
            (0.0..=100.0).contains(&percent).then_some(Self { percent, share })
        };
        digits.filter(plain).and_then(read).ok_or_else(|| QuantileError(text.to_owned()))
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_read_as_people_and_files_write_them() {
        for (text, shown) in [("p50", "p50"), ("p99.9", "p99.9"), ("p99_99", "p99.99")] {
            assert_eq!(text.parse::<Quantile>().unwrap().to_string(), shown);
        }
        assert_eq!("p99.9".parse::<Quantile>().unwrap().share(), 0.999);
        for text in ["", "p", "99", "p101", "p-1", "pnan", "p1e1", "p1.2.3", "P50", "p+5"] {
            assert!(text.parse::<Quantile>().is_err(), "{text}");
        }
    }
}
