//! The values of objectives, as people read them.

use super::units;
use crate::model::verdict::Slo;

/// What was measured, in words.
pub(super) fn measured(slo: &Slo) -> String {
    slo.value.map_or_else(|| "not measured".into(), |measured| value(&slo.expr, measured))
}

/// A value in the unit of the expression: nanoseconds behind the name of a phase, a share where
/// the bound is one, else a count.
pub(super) fn value(expr: &str, value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "times and counts are not negative")]
    let whole = value.round() as u64;
    let (bound, _) = expr.split_once('@').unwrap_or((expr, ""));
    let name = expr.split(['<', '>', '=', '!']).next().unwrap_or(expr).trim();
    match name.split_once('.') {
        _ if bound.trim_end().ends_with('%') => share(value),
        Some((_, statistic)) if statistic != "count" => units::duration(whole),
        _ => units::count(whole),
    }
}

/// With as many digits as it takes to tell it from 100 %.
fn share(value: f64) -> String {
    let percent = 100.0 * value;
    let digits = if value < 1.0 && percent > 99.9 { 4 } else { 2 };
    format!("{percent:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_unit_of_their_expression() {
        assert_eq!(value("accept_delay.p99<5ms", 1_250_000.0), "1.25ms");
        assert_eq!(value("accept_delay.count>5", 1_250.0), "1,250");
        assert_eq!(value("completed>99.9%", 0.9985), "99.85 %");
        assert_eq!(value("completed>99.9%", 0.999_95), "99.9950 %");
        assert_eq!(value("failed>1%@5s", 0.5), "50.00 %");
        assert_eq!(value("never_accepted==0", 12_345.0), "12,345");
    }
}
