//! `run.hlog`: the standard HdrHistogram interval log, version 1.3.
//!
//! Values are nanoseconds and `Interval_Max` milliseconds, as readers expect. accept_delay is
//! untagged, because readers take untagged lines by default; other phases carry their name as tag.
//! StartTime and BaseTime are both written: some readers misplace intervals with only one of them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};

use crate::model::histogram::{HistogramError, Summary};
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// The log of a result's intervals.
///
/// # Errors
/// [`HistogramError`] where a histogram of the result cannot be read.
pub fn render(result: &RunResult) -> Result<String, HistogramError> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer =
        header(begin(result)).begin_log_with(&mut log, &mut serializer).expect(NEVER_FAILS);
    for interval in &result.intervals {
        let start = Duration::from_nanos(interval.start_ns);
        let length = Duration::from_nanos(interval.length_ns);
        for (phase, summary) in untagged_first(&interval.histograms) {
            write(&mut writer, start, length, phase, summary)?;
        }
    }
    let log = String::from_utf8(log).expect("the writer writes text");
    Ok(with_legend(&log))
}

/// Begin of the load; a result of version 1 has it only as a date.
fn begin(result: &RunResult) -> SystemTime {
    let since_1970 = match result.times {
        Some(times) => Duration::from_nanos(times.load_began),
        None => humantime::parse_rfc3339(&result.started_at)
            .ok()
            .and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok())
            .unwrap_or_default(),
    };
    SystemTime::UNIX_EPOCH + since_1970
}

fn header(began: SystemTime) -> IntervalLogWriterBuilder {
    let mut header = IntervalLogWriterBuilder::new();
    header
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values in nanoseconds, Interval_Max in milliseconds; accept_delay: no tag]")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1e6);
    header
}

fn write(
    writer: &mut IntervalLogWriter<'_, '_, Vec<u8>, V2DeflateSerializer>,
    start: Duration,
    length: Duration,
    phase: &str,
    summary: &Summary,
) -> Result<(), HistogramError> {
    let primary = phase == Phase::AcceptDelay.name();
    // A name that is no tag (a comma, a space) can only be one of a later version.
    let Some(tag) = (if primary { Some(None) } else { Tag::new(phase).map(Some) }) else {
        return Ok(());
    };
    let written = writer.write_histogram(&summary.histogram()?, start, length, tag);
    never_fails(&written);
    Ok(())
}

fn untagged_first(
    histograms: &BTreeMap<String, Summary>,
) -> impl Iterator<Item = (&String, &Summary)> {
    let primary = |name: &str| name == Phase::AcceptDelay.name();
    let first = histograms.iter().filter(move |(name, _)| primary(name));
    first.chain(histograms.iter().filter(move |(name, _)| !primary(name)))
}

/// The line of column names, which readers show and the crate's writer leaves out.
fn with_legend(log: &str) -> String {
    const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
                          \"Interval_Compressed_Histogram\"\n";
    let header: usize =
        log.split_inclusive('\n').take_while(|line| line.starts_with('#')).map(str::len).sum();
    let (header, rows) = log.split_at(header);
    [header, LEGEND, rows].concat()
}

fn never_fails<T, E: Debug>(written: &Result<T, E>) {
    assert!(written.is_ok(), "{NEVER_FAILS}: {:?}", written.as_ref().err());
}

const NEVER_FAILS: &str = "a vector takes every write and the bounds fit the format";

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::model::interval::Interval;
    use crate::model::outcome::Outcomes;
    use crate::model::result::Times;

    fn interval(second: u64, samples: &[(&str, u64)]) -> Interval {
        let summary = |ns| {
            let mut histogram = new_histogram();
            histogram.saturating_record(ns);
            Summary::of(&histogram)
        };
        Interval {
            start_ns: second * 1_000_000_000,
            length_ns: 1_000_000_000,
            outcomes: Outcomes::default(),
            warmup_excluded: 0,
            histograms: samples.iter().map(|&(name, ns)| (name.into(), summary(ns))).collect(),
        }
    }

    fn result(intervals: Vec<Interval>) -> RunResult {
        let began = 1_500_000_000;
        let times = Times {
            load_began: began,
            measured_from: began,
            measured_to: began,
            load_ended: began,
        };
        RunResult { times: Some(times), intervals, ..RunResult::default() }
    }

    #[test]
    fn a_reader_finds_the_intervals_and_their_tags() {
        let samples = [("accept_delay", 8_400), ("connect", 7_000)];
        let log = render(&result(vec![interval(0, &samples), interval(1, &samples)])).unwrap();
        assert!(log.starts_with("#[Histogram log format version 1.3]\n"));
        assert!(log.contains("#[StartTime: 1.500 (seconds since epoch)]"), "{log}");
        let lines: Vec<&str> = log.lines().filter(|l| l.contains("HISTF")).collect();
        assert!(lines[0].starts_with("0.000,1.000,0.008,HISTF"), "{}", lines[0]);
        assert!(lines[3].starts_with("Tag=connect,1.000,1.000,0.007,HISTF"), "{}", lines[3]);

        let legend = log.lines().find(|l| l.starts_with('"')).unwrap();
        let parsed = log.replace(&format!("{legend}\n"), "");
        let tags: Vec<Option<String>> = IntervalLogIterator::new(parsed.as_bytes())
            .filter_map(|entry| match entry.expect("a well-formed line") {
                LogEntry::Interval(interval) => Some(interval.tag().map(|t| t.as_str().into())),
                _ => None,
            })
            .collect();
        assert_eq!(tags, [None, Some("connect".into()), None, Some("connect".into())]);
    }

    #[test]
    fn an_interval_without_samples_has_no_line() {
        assert!(!render(&result(vec![interval(0, &[])])).unwrap().contains("HISTF"));
    }

    #[test]
    fn a_date_is_enough_for_a_begin() {
        let started_at = "1970-01-01T00:00:02.250Z".into();
        let log = render(&RunResult { started_at, ..RunResult::default() }).unwrap();
        assert!(log.contains("#[BaseTime: 2.250 (seconds since epoch)]"), "{log}");
    }
}
