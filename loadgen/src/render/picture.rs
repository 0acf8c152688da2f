//! Pictures of several runs, each a file of its own.

use hdrhistogram::Histogram;

use super::chart::{Axis, Chart, Curve, Mark, Series, Theme, percentiles};
use super::units;
use crate::model::found::{CurvePoint, Found, Limit};
use crate::model::histogram::Summary;
use crate::model::hold::Hold;
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Percentile curves, one per name, each over all results of that name: accept_delay, or connect
/// where no accept was observed.
#[must_use]
pub fn overlay(title: &str, named: &[(String, Vec<RunResult>)]) -> String {
    let all = || named.iter().flat_map(|(_, results)| results);
    let observed = all().any(|result| result.samples(Phase::AcceptDelay) > 0);
    let phase = if observed { Phase::AcceptDelay } else { Phase::Connect };
    let curve = |(name, results): &(String, Vec<RunResult>)| {
        merged(results, phase).map(|histogram| Curve { name: name.clone(), histogram })
    };
    let curves: Vec<Curve> = named.iter().filter_map(curve).collect();
    let mut chart = percentiles(format!("{}: {title}", phase.name()), &curves);
    chart.titled = true;
    chart.svg(&Theme::LIGHT)
}

/// accept_delay over the rate, up to the knee, with what holds apart from what does not.
#[must_use]
pub fn knee(found: &Found) -> String {
    let of = |pick: fn(&CurvePoint) -> Option<f64>, state: Option<State>| -> Vec<(f64, f64)> {
        let wanted = |point: &&CurvePoint| state.is_none_or(|state| State::of(point) == state);
        let place = |point: &CurvePoint| Some((point.rate, pick(point).filter(|ns| *ns > 0.0)?));
        found.curve.iter().filter(wanted).filter_map(place).collect()
    };
    let all = [of(|it| it.p50_ns, None), of(|it| it.p99_ns, None)].concat();
    let x = Axis::logarithmic("connections/s", all.iter().map(|it| it.0), units::rate);
    let y = Axis::logarithmic("time", all.iter().map(|it| it.1), units::round_duration);
    let mut chart = Chart::new(format!("accept_delay by rate: {}", found.slo.join(", ")), x, y);
    chart.titled = true;
    let drawn = |name: &str, colour, mark, points| Series {
        name: name.into(),
        colour,
        mark,
        points,
        ..Series::default()
    };
    chart.series = vec![
        drawn("p50", 0, Mark::Line, of(|it| it.p50_ns, None)),
        drawn("p99", 1, Mark::Line, of(|it| it.p99_ns, None)),
        drawn("holds", 2, Mark::Dots, of(|it| it.p99_ns, Some(State::Holds))),
        drawn("does not", 5, Mark::Dots, of(|it| it.p99_ns, Some(State::Misses))),
        drawn("not offered", 7, Mark::Dots, of(|it| it.p99_ns, Some(State::NotOffered))),
    ];
    chart.series.retain(|series| !series.points.is_empty());
    chart.svg(&Theme::LIGHT)
}

/// What a held connection costs, by how many there are: CPU until it is open at both ends, and the
/// accept_delay of probes beside them. Of results that held some.
#[must_use]
pub fn growth(results: &[RunResult]) -> String {
    let of = |pick: &dyn Fn(&RunResult, &Hold) -> Option<f64>| -> Vec<(f64, f64)> {
        let place = |result: &RunResult| {
            let hold = result.hold.as_ref()?;
            Some((f64::from(hold.echoed), pick(result, hold).filter(|ns| *ns > 0.0)?))
        };
        let mut points: Vec<_> = results.iter().filter_map(place).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let each = |seconds: Option<f64>, hold: &Hold| Some(seconds? * 1e9 / f64::from(hold.opened));
    let delay = |pick: fn(&Summary) -> Option<u64>| {
        of(&|result, _| {
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a delay")]
            let ns = pick(result.histograms.get(Phase::AcceptDelay.name())?)? as f64;
            Some(ns)
        })
    };
    let drawn = [
        ("CPU to open one: clients", of(&|_, hold| each(hold.opening_cpu?.holders_s, hold))),
        ("CPU to open one: server", of(&|_, hold| each(hold.opening_cpu?.server_s, hold))),
        ("accept_delay p50", delay(|phase| phase.p50)),
        ("accept_delay p99", delay(|phase| phase.p99)),
    ];
    let all = || drawn.iter().flat_map(|(_, points)| points);
    let x = Axis::logarithmic("connections held", all().map(|it| it.0), units::rate);
    let y = Axis::logarithmic("time", all().map(|it| it.1), units::round_duration);
    let mut chart = Chart::new("what one costs, by how many are held", x, y);
    chart.titled = true;
    let series = drawn.into_iter().enumerate().map(|(colour, (name, points))| Series {
        name: name.into(),
        colour,
        mark: Mark::DotsAndLine,
        points,
        ..Series::default()
    });
    chart.series = series.filter(|series| !series.points.is_empty()).collect();
    chart.svg(&Theme::LIGHT)
}

/// What a point of the curve says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Holds,
    Misses,
    /// The generator was short: nothing is known about the server.
    NotOffered,
}

impl State {
    fn of(point: &CurvePoint) -> Self {
        match (point.holds, point.limit) {
            (true, _) => Self::Holds,
            (false, Some(Limit::Generator)) => Self::NotOffered,
            (false, _) => Self::Misses,
        }
    }
}

/// The samples of all the results together.
fn merged(results: &[RunResult], phase: Phase) -> Option<Histogram<u64>> {
    let summaries = results.iter().filter_map(|result| result.sampled(phase));
    let mut histograms = summaries.filter_map(|summary| summary.histogram().ok());
    let first = histograms.next()?;
    Some(histograms.fold(first, |mut sum, next| {
        sum.add(next).expect("all histograms have the same bounds");
        sum
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{Summary, new_histogram};

    #[test]
    fn the_knee_shows_what_holds_and_what_does_not() {
        let point = |rate, ns, holds| CurvePoint {
            rate,
            holds,
            p50_ns: Some(ns),
            p99_ns: Some(2.0 * ns),
            ..CurvePoint::default()
        };
        let mut found = Found {
            found_rate: Some(200.0),
            limit: None,
            max_reached: false,
            slo: vec!["accept_delay.p99<1ms".into()],
            curve: vec![point(100.0, 1e4, true), point(200.0, 2e4, true), point(400.0, 1e7, false)],
            interrupted: false,
            tool: RunResult::default().tool,
            argv: Vec::new(),
        };
        let picture = knee(&found);
        assert!(picture.contains("accept_delay.p99&lt;1ms"), "{picture}");
        assert!(picture.matches("<circle").count() >= 3, "{picture}");
        assert!(picture.contains("does not<") && !picture.contains("not offered<"), "{picture}");
        found.curve[2].limit = Some(Limit::Generator);
        let picture = knee(&found);
        assert!(picture.contains("not offered<") && !picture.contains("does not<"), "{picture}");
        assert!(knee(&Found { curve: vec![], ..found }).ends_with("</svg>\n"));
    }

    #[test]
    fn each_name_is_one_curve_of_all_its_results() {
        let result = |ns: u64| {
            let mut delays = new_histogram();
            (0..50).for_each(|_| delays.saturating_record(ns));
            let histograms = [("accept_delay".into(), Summary::of(&delays))].into();
            RunResult { histograms, ..RunResult::default() }
        };
        assert_eq!(merged(&[result(5), result(7)], Phase::AcceptDelay).unwrap().len(), 100);
        let named =
            [("a<b".to_owned(), vec![result(5), result(7)]), ("unmeasured".to_owned(), vec![])];
        let picture = overlay("sweep", &named);
        assert!(picture.contains("a&lt;b") && !picture.contains("unmeasured"), "{picture}");
    }
}
