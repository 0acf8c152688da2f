//! Numbers of a table, as people read them.

use loadgen::analyse::statistics::Summary;
use loadgen::render::units;

use crate::tables::Unit;

const BYTES: &[(f64, &str)] =
    &[(1_073_741_824.0, " GiB"), (1_048_576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")];
const BYTES_PER_SECOND: &[(f64, &str)] = &[(1e9, " GB/s"), (1e6, " MB/s"), (1e3, " kB/s")];

/// `value` with its unit.
pub(super) fn text(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => units::duration(value.round() as u64),
        Unit::PerSecond => units::rate(value),
        Unit::Bytes => scaled(BYTES, value),
        Unit::BytesPerSecond => scaled(BYTES_PER_SECOND, value),
        Unit::Plain => digits(value),
    }
}

/// The median and, if there was more than one round, the extremes.
pub(super) fn with_spread(unit: Unit, summary: &Summary) -> String {
    let [median, min, max] =
        [summary.median, summary.min, summary.max].map(|value| text(unit, value));
    if summary.count < 2 || (min == median && max == median) {
        return median;
    }
    format!("{median} ({min}–{max})")
}

/// At the scale at which `value` has a digit before the point.
fn scaled(scales: &[(f64, &str)], value: f64) -> String {
    let fitting = scales.iter().find(|(size, _)| value >= *size).or(scales.last());
    let (size, suffix) = fitting.unwrap_or(&(1.0, ""));
    format!("{}{suffix}", digits(value / size))
}

/// Three digits that count, but at most three behind the point, and whole numbers bare.
fn digits(value: f64) -> String {
    if value.fract() == 0.0 && value < 1e6 {
        return format!("{value}");
    }
    match value {
        m if m >= 99.95 => format!("{value:.0}"),
        m if m >= 9.995 => format!("{value:.1}"),
        m if m >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        assert_eq!(text(Unit::Nanoseconds, 8_234.4), "8.23µs");
        assert_eq!(text(Unit::PerSecond, 293_456.0), "293,456");
        assert_eq!(text(Unit::Bytes, 8_163.0), "7.97 KiB");
        assert_eq!(text(Unit::BytesPerSecond, 2.5e9), "2.50 GB/s");
        assert_eq!(text(Unit::Plain, 0.0131), "0.013");
        assert_eq!(text(Unit::Plain, 16.0), "16");
    }

    #[test]
    fn a_spread_is_written_beside_its_median() {
        let summary = Summary::of([900.0, 1_100.0, 2_000.0]).expect("values");
        assert_eq!(with_spread(Unit::Nanoseconds, &summary), "1.10µs (900ns–2.00µs)");
        let one = Summary::of([1_100.0]).expect("a value");
        assert_eq!(with_spread(Unit::Nanoseconds, &one), "1.10µs");
    }
}
