//! The counts and histograms of a run by interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::{HistogramError, Summary};
use super::outcome::Outcomes;

/// The most intervals in a result; with more, adjacent intervals are merged.
pub const INTERVALS_MAX: usize = 600;

/// One interval, over all generator threads, warm-up included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Begin of the interval, from the start of the load.
    pub start_ns: u64,
    /// Length of the interval.
    pub length_ns: u64,
    /// Attempts that began in the interval, and outcomes of those that ended in it.
    pub outcomes: Outcomes,
    /// Warm-up arrivals in the interval.
    #[serde(default)]
    pub warmup_excluded: u64,
    /// By name of the phase; only phases with samples.
    pub histograms: BTreeMap<String, Summary>,
}

impl Interval {
    /// Merges two intervals exactly.
    ///
    /// # Errors
    /// [`HistogramError`] where a histogram cannot be decoded.
    pub fn merged(&self, other: &Self) -> Result<Self, HistogramError> {
        let start_ns = self.start_ns.min(other.start_ns);
        let end_ns = (self.start_ns + self.length_ns).max(other.start_ns + other.length_ns);
        let mut histograms = self.histograms.clone();
        for (phase, theirs) in &other.histograms {
            let sum = match histograms.get(phase) {
                Some(mine) => {
                    let mut sum = mine.histogram()?;
                    sum.add(theirs.histogram()?).expect("both have the same bounds");
                    Summary::of(&sum)
                }
                None => theirs.clone(),
            };
            histograms.insert(phase.clone(), sum);
        }
        Ok(Self {
            start_ns,
            length_ns: end_ns - start_ns,
            outcomes: self.outcomes.merged(&other.outcomes),
            warmup_excluded: self.warmup_excluded + other.warmup_excluded,
            histograms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::model::outcome::Outcome;

    fn interval(start_ns: u64, sample: u64) -> Interval {
        let mut histogram = new_histogram();
        histogram.saturating_record(sample);
        Interval {
            start_ns,
            length_ns: 10,
            outcomes: Outcomes {
                attempted: 1,
                ended: [(Outcome::Completed.name().into(), 1)].into(),
            },
            warmup_excluded: 1,
            histograms: [("connect".into(), Summary::of(&histogram))].into(),
        }
    }

    #[test]
    fn adjacent_intervals_merge_exactly() {
        let both = interval(0, 5).merged(&interval(10, 7)).unwrap();
        assert_eq!((both.start_ns, both.length_ns, both.warmup_excluded), (0, 20, 2));
        assert_eq!((both.outcomes.attempted, both.outcomes.of(Outcome::Completed)), (2, 2));
        let histogram = both.histograms["connect"].histogram().unwrap();
        assert_eq!((histogram.len(), histogram.min(), histogram.max()), (2, 5, 7));
    }

    #[test]
    fn a_phase_of_only_one_interval_is_kept() {
        let mut second = interval(10, 7);
        second.histograms = [("echo_rtt".into(), second.histograms["connect"].clone())].into();
        let both = interval(0, 5).merged(&second).unwrap();
        assert_eq!(both.histograms.keys().collect::<Vec<_>>(), ["connect", "echo_rtt"]);
    }
}
