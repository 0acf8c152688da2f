//! Interval logs: what is written is read by HdrHistogram's own reader, with nothing lost.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadgen::model::histogram::{HIGHEST_NS, Summary, new_histogram};
use loadgen::model::interval::Interval;
use loadgen::model::outcome::Outcomes;
use loadgen::model::result::RunResult;
use loadgen::render::hlog;

/// Eight bytes are the samples of an interval: a phase, how many, and the value of each.
pub fn run(data: &[u8]) {
    let intervals: Vec<Interval> = data.chunks_exact(8).enumerate().map(interval).collect();
    let result = RunResult { intervals, ..RunResult::default() };
    let log = hlog::render(&result).expect("histograms of this program");
    let mut read = IntervalLogIterator::new(log.as_bytes());
    for written in &result.intervals {
        let Some(Ok(LogEntry::Interval(line))) = read.find(is_interval) else { panic!("{log}") };
        let (phase, summary) = written.histograms.first_key_value().expect("one phase");
        let tag = line.tag().map(|tag| tag.as_str());
        assert_eq!(tag, Some(phase.as_str()).filter(|name| *name != "accept_delay"), "{log}");
        let bytes = STANDARD.decode(line.encoded_histogram()).expect("base64");
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
        assert_eq!(histogram, summary.histogram().expect("the same"));
    }
    assert!(!read.any(|entry| is_interval(&entry)), "{log}");
}

fn is_interval<E>(entry: &Result<LogEntry<'_>, E>) -> bool {
    matches!(entry, Ok(LogEntry::Interval(_)))
}

fn interval((index, bytes): (usize, &[u8])) -> Interval {
    const PHASES: [&str; 3] = ["accept_delay", "connect", "generator_lag"];
    let number = bytes[2..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut histogram = new_histogram();
    let count = u64::from(bytes[1]).max(1);
    histogram.record_n(number.min(HIGHEST_NS), count).expect("within the bounds");
    let phase = PHASES[usize::from(bytes[0]) % PHASES.len()].to_owned();
    Interval {
        start_ns: index as u64 * 1_000_000_000,
        length_ns: 1_000_000_000,
        outcomes: Outcomes::default(),
        warmup_excluded: 0,
        histograms: BTreeMap::from([(phase, Summary::of(&histogram))]),
    }
}
