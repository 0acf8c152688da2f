//! Numbers as people read them: three digits that count, and a unit.

use crate::stats::Spread;
use crate::tables::Unit;

const NANOSECONDS: &[(f64, &str)] = &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")];
const PER_SECOND: &[(f64, &str)] = &[(1e6, " M"), (1e3, " k"), (1.0, "")];
const BYTES: &[(f64, &str)] =
    &[(1_073_741_824.0, " GiB"), (1_048_576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")];
const BYTES_PER_SECOND: &[(f64, &str)] = &[(1e9, " GB/s"), (1e6, " MB/s"), (1e3, " kB/s")];
const PLAIN: &[(f64, &str)] = &[(1.0, "")];

fn scales(unit: Unit) -> &'static [(f64, &'static str)] {
    match unit {
        Unit::Nanoseconds => NANOSECONDS,
        Unit::PerSecond => PER_SECOND,
        Unit::Bytes => BYTES,
        Unit::BytesPerSecond => BYTES_PER_SECOND,
        Unit::Plain => PLAIN,
    }
}

/// The scale at which `value` has a digit before the point.
fn scale(unit: Unit, value: f64) -> (f64, &'static str) {
    let scales = scales(unit);
    let fitting = scales.iter().find(|(size, _)| value.abs() >= *size);
    *fitting.or(scales.last()).unwrap_or(&(1.0, ""))
}

/// `value` with its unit.
pub(super) fn text(unit: Unit, value: f64) -> String {
    let (size, suffix) = scale(unit, value);
    format!("{}{suffix}", digits(value / size))
}

/// The median and, if there was more than one round, the extremes, all at one scale.
pub(super) fn with_spread(unit: Unit, spread: &Spread) -> String {
    let (size, suffix) = scale(unit, spread.median);
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|v| digits(v / size));
    if spread.rounds < 2 || (min == median && max == median) {
        return format!("{median}{suffix}");
    }
    format!("{median}{suffix} ({min}–{max})")
}

/// Three digits that count, but at most three behind the point, and whole numbers bare.
fn digits(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < 1e6 {
        return format!("{value}");
    }
    match magnitude {
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
        assert_eq!(text(Unit::Nanoseconds, 8_234.0), "8.23 µs");
        assert_eq!(text(Unit::Nanoseconds, 999.0), "999 ns");
        assert_eq!(text(Unit::PerSecond, 293_456.0), "293 k");
        assert_eq!(text(Unit::Bytes, 8_163.0), "7.97 KiB");
        assert_eq!(text(Unit::BytesPerSecond, 2.5e9), "2.50 GB/s");
        assert_eq!(text(Unit::Plain, 0.0131), "0.013");
        assert_eq!(text(Unit::Plain, 16.0), "16");
        assert_eq!(text(Unit::Nanoseconds, 0.0), "0 ns");
    }

    #[test]
    fn a_spread_is_written_at_the_scale_of_its_median() {
        let spread = Spread::of([900.0, 1_100.0, 2_000.0]).expect("values");
        assert_eq!(with_spread(Unit::Nanoseconds, &spread), "1.10 µs (0.900–2)");
        let one = Spread::of([1_100.0]).expect("a value");
        assert_eq!(with_spread(Unit::Nanoseconds, &one), "1.10 µs");
    }
}
