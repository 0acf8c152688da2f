//! Numbers as people read them.

use crate::model::server::{ClockOffset, Drift};

/// A duration with three significant digits and the unit that suits it: `8.41µs`, `120ms`.
pub fn duration(ns: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let ns = ns as f64;
    // 999.5 would be shown as 1000: the next unit says it better.
    let suits = |&&(_, unit): &&(&str, f64)| ns / unit < 999.5;
    let &(name, unit) = UNITS.iter().find(suits).unwrap_or(&UNITS[3]);
    let value = ns / unit;
    let digits = match value {
        _ if unit == 1.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{name}")
}

/// A round number of nanoseconds, for an axis: `10µs` instead of `10.0µs`.
#[must_use]
pub fn round_duration(ns: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "durations are not negative")]
    let shown = duration(ns.round() as u64);
    let unit = shown.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(shown.len());
    let (number, unit) = shown.split_at(unit);
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned() + unit,
        false => shown,
    }
}

/// A duration, or a dash.
pub fn maybe(ns: Option<u64>) -> String {
    ns.map_or_else(|| "–".into(), duration)
}

/// Where another machine's clock lies, and how well that is known.
pub fn clock(offset: &ClockOffset) -> String {
    let ClockOffset { offset_ns, bound_ns, drift } = *offset;
    let direction = if offset_ns < 0 { "behind" } else { "ahead" };
    let drift = drift.map_or_else(String::new, |Drift { ppm, bound_ppm }| {
        format!(", drifting by {ppm:+.1} ± {bound_ppm:.1} ppm")
    });
    format!(
        "the server's clock is {} {direction}{drift}; accepts are known to ± {}",
        duration(offset_ns.unsigned_abs()),
        duration(bound_ns)
    )
}

/// A duration that is known to a bound, or a dash. What is finer than the bound is not told, only
/// that it is not above twice the bound.
pub fn bounded(ns: Option<u64>, bound_ns: u64) -> String {
    match ns {
        Some(ns) if ns < bound_ns => format!("< {}", duration(bound_ns.saturating_mul(2))),
        ns => maybe(ns),
    }
}

/// A duration, or that it is below what can be told.
pub fn resolved(ns: u64, resolution_ns: u64) -> String {
    match ns < resolution_ns {
        true => format!("< {}", duration(resolution_ns)),
        false => duration(ns),
    }
}

/// A count with separators: `30,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut shown = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A number per second, without decimals that mean nothing.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
        #[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
        return count(per_second.round() as u64);
    }
    let shown = format!("{per_second:.3}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1 thing`, `2 things`.
pub fn plural(n: u64, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(n))
}

/// A difference with its sign: `+9,462`, `-1,311`.
pub fn signed(n: f64) -> String {
    let sign = if n.round() < 0.0 { '-' } else { '+' };
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "the sign is written apart")]
    let size = n.abs().round() as u64;
    format!("{sign}{}", count(size))
}

/// A part of a whole: `7.3 %`.
pub fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    format!("{share:.1} %")
}

/// Nanoseconds of a number of milliseconds.
pub fn ns_of_ms(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "durations are not negative")]
    let ns = (ms * 1e6).round() as u64;
    ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_fitting_unit() {
        let shown = [
            (0, "0ns"),
            (842, "842ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (8_412, "8.41µs"),
            (9_996, "10.0µs"),
            (14_230, "14.2µs"),
            (412_499, "412µs"),
            (999_600, "1.00ms"),
            (10_000_000_000, "10.0s"),
            (300_000_000_000, "300s"),
        ];
        for (ns, text) in shown {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn round_durations_have_no_trailing_zeros() {
        let shown = [(10e3, "10µs"), (1.05e6, "1.05ms"), (500.0, "500ns"), (2.5e9, "2.5s")];
        for (ns, text) in shown {
            assert_eq!(round_duration(ns), text);
        }
    }

    #[test]
    fn counts_and_rates_are_readable() {
        assert_eq!([count(0), count(999), count(1_000)], ["0", "999", "1,000"]);
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!([rate(3000.4), rate(2.5), rate(0.001)], ["3,000", "2.5", "0.001"]);
        assert_eq!([signed(1310.6), signed(-1310.6), signed(-0.2)], ["+1,311", "-1,311", "+0"]);
        assert_eq!([plural(1, "thread"), plural(2, "thread")], ["1 thread", "2 threads"]);
    }
}
