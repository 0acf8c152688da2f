//! A result as CSV (RFC 4180): a row per phase, first of the whole run, then of each interval.

use std::collections::BTreeMap;

use csv::Writer;

use crate::model::histogram::Summary;
use crate::model::result::RunResult;

const HEADER: [&str; 14] = [
    "interval",
    "start_ns",
    "length_ns",
    "phase",
    "count",
    "min_ns",
    "mean_ns",
    "stdev_ns",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "p99_9_ns",
    "p99_99_ns",
    "max_ns",
];

/// The table; `interval` is `all` for the whole run, else its number from 0.
pub fn render(result: &RunResult) -> String {
    let mut writer = Writer::from_writer(Vec::new());
    write(&mut writer, &HEADER.map(str::to_owned));
    let ends = result.intervals.iter().map(|i| i.start_ns.saturating_add(i.length_ns));
    let length = ends.max().unwrap_or(0);
    phases(&mut writer, ["all".into(), "0".into(), length.to_string()], &result.histograms);
    for (index, interval) in result.intervals.iter().enumerate() {
        let place =
            [index.to_string(), interval.start_ns.to_string(), interval.length_ns.to_string()];
        phases(&mut writer, place, &interval.histograms);
    }
    let bytes = writer.into_inner().expect(NEVER_FAILS);
    String::from_utf8(bytes).expect("fields are text")
}

fn phases(
    writer: &mut Writer<Vec<u8>>,
    place: [String; 3],
    histograms: &BTreeMap<String, Summary>,
) {
    for (phase, summary) in histograms {
        let number = |value: Option<u64>| value.map_or_else(String::new, |ns| ns.to_string());
        let decimal = |value: Option<f64>| value.map_or_else(String::new, |ns| format!("{ns:.1}"));
        let [interval, start, length] = place.clone();
        write(
            writer,
            &[
                interval,
                start,
                length,
                phase.clone(),
                summary.count.to_string(),
                number(summary.min),
                decimal(summary.mean),
                decimal(summary.stdev),
                number(summary.p50),
                number(summary.p90),
                number(summary.p99),
                number(summary.p99_9),
                number(summary.p99_99),
                number(summary.max),
            ],
        );
    }
}

fn write(writer: &mut Writer<Vec<u8>>, row: &[String; 14]) {
    writer.write_record(row).expect(NEVER_FAILS);
}

const NEVER_FAILS: &str = "a vector takes every write and rows are equally long";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::model::interval::Interval;
    use crate::model::outcome::Outcomes;

    #[test]
    fn phases_have_a_row_each_for_the_run_and_for_its_intervals() {
        let mut histogram = new_histogram();
        histogram.saturating_record(1000);
        let phases: BTreeMap<String, Summary> =
            [("a,\"b\"".to_owned(), Summary::of(&histogram))].into();
        let (start_ns, length_ns, outcomes) = (5, 7, Outcomes::default());
        let histograms = phases.clone();
        let interval = Interval { start_ns, length_ns, outcomes, warmup_excluded: 0, histograms };
        let (histograms, intervals) = (phases, vec![interval]);
        let text = render(&RunResult { histograms, intervals, ..RunResult::default() });
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], HEADER.join(","));
        assert!(rows[1].starts_with("all,0,12,\"a,\"\"b\"\"\",1,1000,"), "{}", rows[1]);
        assert!(rows[2].starts_with("0,5,7,"), "{}", rows[2]);
        assert_eq!(rows.len(), 3);
    }
}
