//! Merges what the generator threads recorded: over the run, and interval by interval.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::recorder::{Counts, Recording};
use crate::model::histogram::{PackedHistogram, quantile};
use crate::model::interval::INTERVALS_MAX;
use crate::model::live::{Live, Percentiles};
use crate::model::outcome::{Outcome, Phase};
use crate::model::server::ClockOffset;
use crate::observe::OffsetBounds;

/// The run so far, merged on the main thread.
#[derive(Debug)]
pub struct Aggregate {
    threads: u16,
    all: Recording,
    /// Intervals that some thread has not delivered yet, and how many did.
    open: BTreeMap<u64, (Recording, u16)>,
    /// The last interval of each thread that has ended.
    ended: Vec<u64>,
    rows: Vec<Row>,
    /// Recorded intervals in one row: doubles when there are too many rows.
    intervals_per_row: u32,
    spare: Vec<Recording>,
    /// The oldest and the newest bounds of the server's clock, if it is another one.
    clock: Option<[OffsetBounds; 2]>,
}

/// One or more intervals of all threads, small enough to keep.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Begin, nanoseconds from the start of the run.
    pub(super) start_ns: u64,
    /// End, nanoseconds from the start of the run.
    pub(super) end_ns: u64,
    /// What was counted in it.
    pub(super) counts: Counts,
    /// The phases that have samples.
    pub(super) histograms: BTreeMap<Phase, PackedHistogram>,
    intervals: u32,
}

impl Aggregate {
    /// Nothing yet, from this many generator threads.
    pub fn new(threads: u16) -> Self {
        Self {
            threads,
            all: Recording::new(),
            open: BTreeMap::new(),
            ended: Vec::new(),
            rows: Vec::new(),
            intervals_per_row: 1,
            spare: Vec::new(),
            clock: None,
        }
    }

    /// Adds one thread's interval; the caller may clear and reuse it afterwards.
    pub fn absorb(&mut self, interval: &Recording) {
        self.all.add(interval);
        self.clock = interval.clock.map(|seen| self.with_clock(seen)).or(self.clock);
        if self.threads == 1 {
            self.keep(Row::of(interval));
            return;
        }
        let (sum, delivered) = self.open.entry(interval.index).or_insert_with(|| {
            let mut sum = self.spare.pop().unwrap_or_default();
            (sum.index, sum.start_ns, sum.end_ns) = (interval.index, interval.start_ns, 0);
            (sum, 0)
        });
        sum.add(interval);
        *delivered += 1;
        if interval.last {
            self.ended.push(interval.index);
        }
        self.close_complete();
    }

    /// Closes the intervals that every thread that still ran then has delivered.
    fn close_complete(&mut self) {
        while let Some((&index, (_, delivered))) = self.open.first_key_value() {
            let gone = self.ended.iter().filter(|&&last| last < index).count();
            if usize::from(*delivered) + gone < usize::from(self.threads) {
                break;
            }
            self.close(index);
        }
    }

    /// Closes intervals that not every thread delivered: the last of a run that ends.
    pub fn finish(&mut self) {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter().for_each(|index| self.close(index));
        self.rows.sort_by_key(|row| row.start_ns);
        while self.rows.len() > INTERVALS_MAX {
            self.halve();
        }
    }

    /// Everything recorded so far.
    pub fn all(&self) -> &Recording {
        &self.all
    }

    /// The rows; ascending and at most [`INTERVALS_MAX`] after [`Self::finish`].
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn with_clock(&self, seen: OffsetBounds) -> [OffsetBounds; 2] {
        let [oldest, newest] = self.clock.unwrap_or([seen, seen]);
        let oldest = if seen.at_ns() < oldest.at_ns() { seen } else { oldest };
        [oldest, if seen.at_ns() > newest.at_ns() { seen } else { newest }]
    }

    /// Where the server's clock lies beside this one, if it is another one.
    pub(super) fn clock_offset(&self) -> Option<ClockOffset> {
        let [oldest, newest] = self.clock?;
        let width = quantile(self.all.histogram(Phase::DiagResolution), 0.99);
        let bound_ns = width.unwrap_or(0).div_ceil(2).max(newest.half_width_ns());
        // Bounds that contradicted each other began anew: what lies between them is no drift.
        let errors = self.all.counts().outcome(Outcome::ClockError);
        let drift = newest.drift_since(oldest).filter(|_| errors == 0);
        Some(ClockOffset { offset_ns: newest.offset_ns(), bound_ns, drift })
    }

    /// The run so far, in the numbers that are shown while it runs.
    pub fn live(&self) -> Live {
        let counts = self.all.counts();
        let primary = self.primary();
        let last = self.rows.last().and_then(|row| row.histograms.get(&primary));
        let failed = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Completed);
        let failed = failed.map(|outcome| (outcome.name(), counts.outcome(outcome)));
        Live {
            started: counts.attempted,
            completed: counts.outcome(Outcome::Completed),
            finished: counts.finished(),
            failed: failed.filter(|(_, count)| *count > 0).collect(),
            so_far: percentiles(self.all.histogram(primary)),
            last_second: last.map(|packed| percentiles(&packed.unpack())).unwrap_or_default(),
            queue: None,
        }
    }

    /// Whether nothing can come of the rest: every attempt so far, and there are some, ended in a
    /// way that the next will not escape.
    pub fn is_hopeless(&self) -> bool {
        let counts = self.all.counts();
        let lost: u64 = HOPELESS.iter().map(|&outcome| counts.outcome(outcome)).sum();
        lost >= HOPELESS_MIN && lost == counts.finished()
    }

    /// accept_delay, or connect while no accept has been seen.
    fn primary(&self) -> Phase {
        let unseen = self.all.histogram(Phase::AcceptDelay).is_empty();
        if unseen { Phase::Connect } else { Phase::AcceptDelay }
    }

    fn close(&mut self, index: u64) {
        let Some((mut interval, _)) = self.open.remove(&index) else { return };
        self.keep(Row::of(&interval));
        interval.clear();
        self.spare.push(interval);
    }

    /// Adds an interval to the last row as long as that is to hold more.
    fn keep(&mut self, row: Row) {
        match self.rows.last_mut() {
            Some(last) if last.intervals < self.intervals_per_row => last.add(&row),
            _ => self.rows.push(row),
        }
        // Twice as many rows as a result has: at its end a run has at least half of what it may.
        if self.rows.len() >= 2 * INTERVALS_MAX {
            self.halve();
        }
    }

    /// Merges neighbours; exact.
    fn halve(&mut self) {
        self.intervals_per_row *= 2;
        let pairs = self.rows.chunks(2).map(|pair| {
            let mut sum = pair[0].clone();
            pair[1..].iter().for_each(|row| sum.add(row));
            sum
        });
        self.rows = pairs.collect();
    }
}

/// Outcomes that come at once. A timeout is none of them: what is slow now may be fast later.
const HOPELESS: [Outcome; 9] = [
    Outcome::Refused,
    Outcome::ResetAfterConnect,
    Outcome::ClosedEarly,
    Outcome::StampInvalid,
    Outcome::EchoMismatch,
    Outcome::LocalPortExhausted,
    Outcome::FdLimit,
    Outcome::Unreachable,
    Outcome::ClockError,
];

/// Fewer attempts than this prove nothing.
const HOPELESS_MIN: u64 = 10;

impl Row {
    fn of(interval: &Recording) -> Self {
        let sampled = Phase::ALL.into_iter().filter(|&p| !interval.histogram(p).is_empty());
        let packed = sampled.map(|p| (p, PackedHistogram::of(interval.histogram(p))));
        Self {
            start_ns: interval.start_ns,
            end_ns: interval.end_ns,
            counts: *interval.counts(),
            histograms: packed.collect(),
            intervals: 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        self.counts.add(&other.counts);
        self.intervals += other.intervals;
        for (&phase, theirs) in &other.histograms {
            let sum = self.histograms.remove(&phase).map_or_else(
                || theirs.clone(),
                |mine| {
                    let mut sum = mine.unpack();
                    sum.add(theirs.unpack()).expect("all histograms have the same bounds");
                    PackedHistogram::of(&sum)
                },
            );
            self.histograms.insert(phase, sum);
        }
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |q| quantile(histogram, q);
    Percentiles {
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        max_ns: (!histogram.is_empty()).then(|| histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::recorder::Recorder;

    fn second(recorder: &mut Recorder, end_ns: u64, delays: &[u64]) -> Recording {
        for &ns in delays {
            recorder.attempt();
            recorder.record(Phase::AcceptDelay, ns);
            recorder.outcome(Outcome::Completed, None);
        }
        recorder.take_interval(end_ns, Recording::new())
    }

    #[test]
    fn threads_merge_interval_by_interval() {
        let (mut a, mut b) = (Recorder::new(), Recorder::new());
        let mut aggregate = Aggregate::new(2);
        aggregate.absorb(&second(&mut a, 1000, &[5, 6]));
        aggregate.absorb(&second(&mut a, 2000, &[7]));
        assert!(aggregate.rows().is_empty());
        aggregate.absorb(&second(&mut b, 1001, &[9]));
        assert_eq!(aggregate.rows().len(), 1);
        aggregate.finish();

        let rows = aggregate.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].start_ns, rows[0].end_ns), (0, 1001));
        let first = rows[0].histograms[&Phase::AcceptDelay].unpack();
        assert_eq!((rows[0].counts.attempted, first.max()), (3, 9));
        assert_eq!((rows[1].start_ns, rows[1].end_ns), (1000, 2000));
        assert_eq!(aggregate.all().histogram(Phase::AcceptDelay).len(), 4);
        assert_eq!(aggregate.live().completed, 4);
    }

    #[test]
    fn a_run_is_hopeless_when_every_attempt_failed_at_once() {
        let after = |outcomes: &[(Outcome, usize)]| {
            let (mut recorder, mut aggregate) = (Recorder::new(), Aggregate::new(1));
            for &(outcome, count) in outcomes {
                (0..count).for_each(|_| recorder.outcome(outcome, None));
            }
            aggregate.absorb(&recorder.take_interval(1000, Recording::new()));
            aggregate.is_hopeless()
        };
        assert!(!after(&[]) && !after(&[(Outcome::Refused, 9)]));
        assert!(after(&[(Outcome::Refused, 9), (Outcome::Unreachable, 1)]));
        assert!(!after(&[(Outcome::Refused, 900), (Outcome::Completed, 1)]));
        assert!(!after(&[(Outcome::NeverAccepted, 900)]), "it may accept later");
    }

    #[test]
    fn a_thread_that_has_ended_is_not_waited_for() {
        let (mut short, mut long) = (Recorder::new(), Recorder::new());
        let mut aggregate = Aggregate::new(2);
        let mut last = second(&mut short, 10, &[5]);
        last.last = true;
        aggregate.absorb(&last);
        for end in 1..=100 {
            aggregate.absorb(&second(&mut long, end * 1000, &[end]));
            assert_eq!((aggregate.open.len(), aggregate.rows().len() as u64), (0, end));
        }
        aggregate.finish();
        assert_eq!(aggregate.all().counts().attempted, 101);
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_exact_rows() {
        let mut recorder = Recorder::new();
        let mut aggregate = Aggregate::new(1);
        let seconds = 5 * INTERVALS_MAX as u64 + 7;
        for end in 1..=seconds {
            aggregate.absorb(&second(&mut recorder, end, &[end]));
            assert!(aggregate.rows().len() < 2 * INTERVALS_MAX);
        }
        aggregate.finish();
        let rows = aggregate.rows();
        assert!((INTERVALS_MAX / 2..=INTERVALS_MAX).contains(&rows.len()), "{}", rows.len());
        assert!(rows.windows(2).all(|pair| pair[0].end_ns == pair[1].start_ns));
        let mut sum = rows[0].clone();
        rows[1..].iter().for_each(|row| sum.add(row));
        assert_eq!(sum.counts, *aggregate.all().counts());
        let delays = sum.histograms[&Phase::AcceptDelay].unpack();
        assert_eq!(&delays, aggregate.all().histogram(Phase::AcceptDelay));
        let lengths: std::collections::BTreeSet<u32> =
            rows[..rows.len() - 1].iter().map(|row| row.intervals).collect();
        assert_eq!(lengths.len(), 1, "rows are equally long: {lengths:?}");
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        let aggregate = Aggregate::new(1);
        assert_eq!(aggregate.live(), Live::default());
        assert_eq!(aggregate.primary(), Phase::Connect);
    }
}
