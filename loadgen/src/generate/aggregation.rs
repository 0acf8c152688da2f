//! Merges what the generator threads recorded: over the run, and second by second.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};

use crate::generate::recorder::{Counts, Interval, Phase};

/// The run so far, merged on the main thread.
#[derive(Debug)]
pub struct Aggregate {
    threads: u16,
    all: Interval,
    /// Intervals that some thread has not delivered yet, and how many did.
    open: BTreeMap<u64, (Interval, u16)>,
    rows: Vec<Row>,
    spare: Vec<Interval>,
}

/// One interval of all threads, small enough to keep for hours.
#[derive(Debug, Clone)]
pub struct Row {
    /// Number of the interval, from 0.
    pub index: u64,
    /// Begin, nanoseconds from the start of the run.
    pub start_ns: u64,
    /// End, nanoseconds from the start of the run.
    pub end_ns: u64,
    /// What was counted in it.
    pub counts: Counts,
    /// p50 of accept_delay, nanoseconds.
    pub p50_ns: Option<u64>,
    /// p99 of accept_delay, nanoseconds.
    pub p99_ns: Option<u64>,
    /// Maximum of accept_delay, nanoseconds.
    pub max_ns: Option<u64>,
    /// The phases that have samples.
    pub histograms: Vec<EncodedHistogram>,
}

/// A histogram on its way into an interval log. While the run goes on it is only made small; that
/// takes a tenth of the time of compressing it, which the generator might miss.
#[derive(Debug, Clone)]
pub struct EncodedHistogram {
    /// What it measures.
    pub phase: Phase,
    /// Largest sample, nanoseconds.
    pub max_ns: u64,
    /// HdrHistogram V2.
    v2: Vec<u8>,
}

/// What progress shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Attempts begun, without the warm-up.
    pub started: u64,
    /// Attempts that ended well.
    pub completed: u64,
    /// Attempts that ended in any way.
    pub finished: u64,
    /// p50 so far of accept_delay, or of connect where accepts are not seen, nanoseconds.
    pub p50_ns: Option<u64>,
    /// p99 of the same.
    pub p99_ns: Option<u64>,
}

impl Aggregate {
    /// Nothing yet, from this many generator threads.
    pub fn new(threads: u16) -> Self {
        Self {
            threads,
            all: Interval::new(),
            open: BTreeMap::new(),
            rows: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Adds one thread's interval; the caller may clear and reuse it afterwards.
    pub fn absorb(&mut self, interval: &Interval) {
        self.all.add(interval);
        if self.threads == 1 {
            self.rows.push(Row::of(interval));
            return;
        }
        let (sum, delivered) = self.open.entry(interval.index).or_insert_with(|| {
            let mut sum = self.spare.pop().unwrap_or_default();
            (sum.index, sum.start_ns, sum.end_ns) = (interval.index, interval.start_ns, 0);
            (sum, 0)
        });
        sum.add(interval);
        *delivered += 1;
        if *delivered == self.threads {
            self.close(interval.index);
        }
    }

    /// Closes intervals that not every thread delivered: the last of a run that ends.
    pub fn finish(&mut self) {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter().for_each(|index| self.close(index));
        self.rows.sort_by_key(|row| (row.start_ns, row.index));
    }

    /// Everything recorded so far.
    pub fn all(&self) -> &Interval {
        &self.all
    }

    /// The closed intervals; ascending after [`Self::finish`].
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The run so far in five numbers.
    pub fn live(&self) -> Live {
        let counts = self.all.counts();
        let seen = self.all.histogram(self.primary());
        Live {
            started: counts.attempted,
            completed: counts.outcome(crate::generate::recorder::Outcome::Completed),
            finished: counts.finished(),
            p50_ns: quantile(seen, 0.5),
            p99_ns: quantile(seen, 0.99),
        }
    }

    /// accept_delay, or connect while no accept has been seen.
    pub fn primary(&self) -> Phase {
        let unseen = self.all.histogram(Phase::AcceptDelay).is_empty();
        if unseen { Phase::Connect } else { Phase::AcceptDelay }
    }

    fn close(&mut self, index: u64) {
        let Some((mut interval, _)) = self.open.remove(&index) else { return };
        self.rows.push(Row::of(&interval));
        interval.clear();
        self.spare.push(interval);
    }
}

impl Row {
    fn of(interval: &Interval) -> Self {
        let delay = interval.histogram(Phase::AcceptDelay);
        let sampled = Phase::ALL.into_iter().filter(|&p| !interval.histogram(p).is_empty());
        Self {
            index: interval.index,
            start_ns: interval.start_ns,
            end_ns: interval.end_ns,
            counts: *interval.counts(),
            p50_ns: quantile(delay, 0.5),
            p99_ns: quantile(delay, 0.99),
            max_ns: (!delay.is_empty()).then(|| delay.max()),
            histograms: sampled.map(|p| EncodedHistogram::of(p, interval.histogram(p))).collect(),
        }
    }
}

impl EncodedHistogram {
    /// Encodes the samples of a phase.
    pub fn of(phase: Phase, histogram: &Histogram<u64>) -> Self {
        let mut v2 = Vec::new();
        V2Serializer::new().serialize(histogram, &mut v2).expect(NEVER_FAILS);
        Self { phase, max_ns: histogram.max(), v2 }
    }

    /// HdrHistogram V2, DEFLATE, base64: the payload that all readers of interval logs take.
    pub fn hdr_v2_deflate_base64(&self) -> String {
        let mut compressor = ZlibEncoder::new(Vec::new(), Compression::default());
        let deflated = compressor.write_all(&self.v2).and_then(|()| compressor.finish());
        let deflated = deflated.expect("a vector takes every write");
        let len = u32::try_from(deflated.len()).expect("an encoded histogram is small");
        let head = [V2_COMPRESSED_COOKIE.to_be_bytes(), len.to_be_bytes()].concat();
        STANDARD.encode([head, deflated].concat())
    }
}

/// A quantile of a histogram that has samples.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile))
}

/// HdrHistogram V2, DEFLATE, base64: the payload that all readers of interval logs take.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect(NEVER_FAILS);
    STANDARD.encode(bytes)
}

const NEVER_FAILS: &str = "a vector takes every write and the bounds fit the format";

/// What a compressed histogram begins with (AbstractHistogram.java of HdrHistogram).
const V2_COMPRESSED_COOKIE: u32 = 0x1c84_9314;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::recorder::{Outcome, Recorder};

    fn second(recorder: &mut Recorder, end_ns: u64, delays: &[u64]) -> Interval {
        for &ns in delays {
            recorder.attempt();
            recorder.record(Phase::AcceptDelay, ns);
            recorder.outcome(Outcome::Completed, None);
        }
        recorder.take_interval(end_ns, Interval::new())
    }

    #[test]
    fn threads_merge_interval_by_interval() {
        let (mut a, mut b) = (Recorder::new(), Recorder::new());
        let mut totals = Aggregate::new(2);
        totals.absorb(&second(&mut a, 1000, &[5, 6]));
        totals.absorb(&second(&mut a, 2000, &[7]));
        assert!(totals.rows().is_empty());
        totals.absorb(&second(&mut b, 1001, &[9]));
        assert_eq!(totals.rows().len(), 1);
        totals.finish();

        let rows = totals.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].start_ns, rows[0].end_ns), (0, 1001));
        assert_eq!((rows[0].counts.attempted, rows[0].max_ns), (3, Some(9)));
        assert_eq!((rows[1].start_ns, rows[1].end_ns), (1000, 2000));
        assert_eq!(rows[1].p50_ns, Some(7));
        assert_eq!(totals.all().histogram(Phase::AcceptDelay).len(), 4);
        assert_eq!(totals.live().completed, 4);
    }

    #[test]
    fn encoded_histograms_decode_to_themselves() {
        let mut histogram = crate::generate::recorder::new_histogram();
        [3, 4_000, 5_000_000].iter().for_each(|&ns| histogram.saturating_record(ns));
        let bytes = STANDARD.decode(encode(&histogram)).unwrap();
        let decoded: Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(decoded, histogram);
        let later = EncodedHistogram::of(Phase::Connect, &histogram);
        assert_eq!(later.hdr_v2_deflate_base64(), encode(&histogram));
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        let totals = Aggregate::new(1);
        assert_eq!(totals.live(), Live::default());
        assert_eq!(totals.primary(), Phase::Connect);
    }
}
