//! `run.hlog`: the standard HdrHistogram interval log, version 1.3.
//!
//! Values are nanoseconds and `Interval_Max` milliseconds, as readers expect. accept_delay is
//! untagged, because readers take untagged lines by default; other phases carry their name as tag.
//! StartTime and BaseTime are both written: some readers misplace intervals with only one of them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::generate::aggregation::{EncodedHistogram, Row};
use crate::generate::recorder::Phase;

/// The log of a run that began at `started_at`. Rows are in ascending order.
pub fn render(started_at: SystemTime, rows: &[Row]) -> String {
    // A clock before 1970 is reported as 1970; intervals are relative to it anyway.
    let epoch = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut log = header(epoch, started_at);
    for row in rows {
        row.histograms.iter().for_each(|histogram| line(&mut log, row, histogram));
    }
    log
}

fn header(epoch: Duration, started_at: SystemTime) -> String {
    let seconds = epoch.as_secs_f64();
    let date = humantime::format_rfc3339_millis(started_at);
    format!(
        "#[Histogram log format version 1.3]\n\
         #[Values in nanoseconds, Interval_Max in milliseconds; accept_delay has no tag]\n\
         #[StartTime: {seconds:.3} (seconds since epoch), {date}]\n\
         #[BaseTime: {seconds:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
         \"Interval_Compressed_Histogram\"\n"
    )
}

fn line(log: &mut String, row: &Row, histogram: &EncodedHistogram) {
    if histogram.phase != Phase::AcceptDelay {
        write!(log, "Tag={},", histogram.phase.name()).expect("writing to a string");
    }
    let start = seconds(row.start_ns);
    let length = seconds(row.end_ns.saturating_sub(row.start_ns));
    let max_ms = seconds(histogram.max_ns) * 1e3;
    let payload = histogram.hdr_v2_deflate_base64();
    writeln!(log, "{start:.3},{length:.3},{max_ms:.3},{payload}").expect("writing to a string");
}

#[expect(clippy::cast_precision_loss, reason = "three decimals are written")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::generate::aggregation::Aggregate;
    use crate::generate::recorder::{Interval, Recorder};

    #[test]
    fn a_reader_finds_the_intervals_and_their_tags() {
        let mut recorder = Recorder::new();
        let mut totals = Aggregate::new(1);
        for second in 1..=2 {
            recorder.record(Phase::AcceptDelay, 8_400);
            recorder.record(Phase::Connect, 7_000);
            totals.absorb(&recorder.take_interval(second * 1_000_000_000, Interval::new()));
        }
        totals.finish();
        let log = render(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500), totals.rows());

        assert!(log.starts_with("#[Histogram log format version 1.3]\n"));
        assert!(
            log.contains("#[StartTime: 1.500 (seconds since epoch), 1970-01-01T00:00:01.500Z]")
        );
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
    fn empty_phases_have_no_line() {
        let mut totals = Aggregate::new(1);
        totals.absorb(&Recorder::new().take_interval(1, Interval::new()));
        let empty: Histogram<u64> = crate::generate::recorder::new_histogram();
        assert!(empty.is_empty());
        assert!(!render(SystemTime::UNIX_EPOCH, totals.rows()).contains("HISTF"));
    }
}
