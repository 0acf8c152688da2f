//! Intervals of several results on one time axis.

use std::collections::BTreeMap;

use super::sums::merge_counts;
use crate::model::histogram::{Count, HistogramError, Summary, of_counts};
use crate::model::interval::{INTERVALS_MAX, Interval};
use crate::model::outcome::Outcomes;

/// Intervals that begin at about the same time, of any number of results, as one. Intervals of
/// parts that ran at the same time are added; others stand one after the other. With more than
/// [`INTERVALS_MAX`], neighbours are added.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Begin of the first part, which a slot begins at.
    anchor: u64,
    /// Length of a slot; 0 before the first interval.
    slot_ns: u64,
    slots: BTreeMap<i64, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Nanoseconds since 1970.
    begin: u64,
    end: u64,
    outcomes: Outcomes,
    warmup_excluded: u64,
    histograms: BTreeMap<String, Vec<Count>>,
}

impl Timeline {
    /// Adds an interval of a part that began at this instant (nanoseconds since 1970).
    ///
    /// # Errors
    /// The phase whose histogram cannot be read, and why.
    pub(super) fn add(
        &mut self,
        part_began: u64,
        interval: &Interval,
    ) -> Result<(), (String, HistogramError)> {
        if self.slot_ns == 0 {
            (self.anchor, self.slot_ns) = (part_began, interval.length_ns.max(1));
        }
        let begin = part_began.saturating_add(interval.start_ns);
        let slot = Slot {
            begin,
            end: begin.saturating_add(interval.length_ns),
            outcomes: interval.outcomes.clone(),
            warmup_excluded: interval.warmup_excluded,
            histograms: decoded(interval)?,
        };
        let index = self.index(begin);
        self.slots.entry(index).or_default().add(slot);
        while self.slots.len() > INTERVALS_MAX {
            self.halve();
        }
        Ok(())
    }

    /// Parts do not begin at exactly the same instant: half a slot to either side is the same.
    fn index(&self, begin: u64) -> i64 {
        let length = i128::from(self.slot_ns);
        let since = i128::from(begin) - i128::from(self.anchor) + length / 2;
        let index = since.div_euclid(length);
        i64::try_from(index).unwrap_or(if index < 0 { i64::MIN } else { i64::MAX })
    }

    fn halve(&mut self) {
        self.slot_ns = self.slot_ns.saturating_mul(2);
        for (index, slot) in std::mem::take(&mut self.slots) {
            self.slots.entry(index.div_euclid(2)).or_default().add(slot);
        }
    }

    /// The begin of all, and the intervals from there on.
    pub(super) fn finish(self, began: u64) -> (u64, Vec<Interval>) {
        let began = self.slots.values().map(|slot| slot.begin).fold(began, u64::min);
        let intervals = self.slots.into_values().map(|slot| slot.interval(began));
        (began, intervals.collect())
    }
}

fn decoded(interval: &Interval) -> Result<BTreeMap<String, Vec<Count>>, (String, HistogramError)> {
    let decoded = interval.histograms.iter().map(|(phase, summary)| {
        let counts = summary.counts().map_err(|cause| (phase.clone(), cause))?;
        Ok((phase.clone(), counts))
    });
    decoded.collect()
}

impl Slot {
    fn add(&mut self, other: Self) {
        let fresh = self.end == 0;
        self.begin = if fresh { other.begin } else { self.begin.min(other.begin) };
        self.end = self.end.max(other.end);
        self.outcomes = self.outcomes.merged(&other.outcomes);
        self.warmup_excluded = self.warmup_excluded.saturating_add(other.warmup_excluded);
        for (phase, counts) in other.histograms {
            let sum = self.histograms.entry(phase).or_default();
            *sum = merge_counts(sum, &counts);
        }
    }

    fn interval(self, began: u64) -> Interval {
        let summary = |counts: &[Count]| {
            Summary::of(&of_counts(counts).expect("values of histograms with these bounds"))
        };
        let histograms = self.histograms.iter();
        Interval {
            start_ns: self.begin.saturating_sub(began),
            length_ns: self.end.saturating_sub(self.begin),
            outcomes: self.outcomes,
            warmup_excluded: self.warmup_excluded,
            histograms: histograms.map(|(name, c)| (name.clone(), summary(c))).collect(),
        }
    }
}
