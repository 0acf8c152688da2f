use super::*;
use crate::model::histogram::{Summary, new_histogram};
use crate::model::outcome::Outcomes;

/// A hundred delays of 1 to 100 ms; 998 of 1000 attempts completed.
fn result() -> RunResult {
    let mut delays = new_histogram();
    (1..=100).for_each(|ms| delays.saturating_record(ms * 1_000_000));
    let ended = [("completed".into(), 998), ("never_accepted".into(), 2)];
    RunResult {
        histograms: [("accept_delay".into(), Summary::of(&delays))].into(),
        outcomes: Outcomes { attempted: 1000, ended: ended.into() },
        ..RunResult::default()
    }
}

fn judge(text: &str) -> Slo {
    text.parse::<Objective>().expect(text).judge(&result())
}

fn error(text: &str) -> String {
    text.parse::<Objective>().expect_err(text).to_string()
}

#[test]
fn every_statistic_outcome_and_relation_can_be_asked_for() {
    for (text, met) in [
        ("accept_delay.p50<51ms", true),
        ("accept_delay.p50<50ms", false),
        (" accept_delay.p99.9 <= 0.1s ", false),
        ("accept_delay.p99_9<=100.1ms", true),
        ("accept_delay.p0>=999us", true),
        ("accept_delay.max>99999µs", true),
        ("accept_delay.mean<50.6ms", true),
        ("accept_delay.min!=1s", true),
        ("accept_delay.stdev<1ms", false),
        ("accept_delay.count==100", true),
        ("completed>99.7%", true),
        ("completed>99.8%", false),
        ("completed>=99.8%", true),
        ("completed<1k", true),
        ("never_accepted==0", false),
        ("refused==0", true),
        ("failed==2", true),
        ("failed<=0.2%", true),
        ("attempted>=1000", true),
    ] {
        assert_eq!(judge(text).met, met, "{text}: {:?}", judge(text));
    }
}

#[test]
fn the_value_is_in_nanoseconds_a_count_or_a_share() {
    let min = judge("accept_delay.min<5ms").value.unwrap();
    assert!((999_000.0..=1_000_000.0).contains(&min), "{min}");
    assert_eq!(judge("never_accepted==0").value, Some(2.0));
    assert_eq!(judge("completed>99%").value, Some(0.998));
    let typed = judge(" completed>99% ");
    assert_eq!(typed.expr, "completed>99%");
}

#[test]
fn what_was_not_measured_meets_nothing() {
    let unmeasured = judge("echo_rtt.p99<5ms");
    assert_eq!((unmeasured.value, unmeasured.met), (None, false));
    let share = "completed>0%".parse::<Objective>().unwrap().judge(&RunResult::default());
    assert_eq!((share.value, share.met), (None, false));
    assert!(judge("echo_rtt.count==0").met);
}

#[test]
fn each_mistake_is_told_with_what_is_allowed() {
    for (text, part) in [
        ("", "expected a value"),
        ("accept_delay.p99", "expected a value"),
        ("<5ms", "expected a value"),
        ("accept_delay.p99<", "expected a value"),
        ("accept_delay.p99=5ms", "the relations are"),
        ("accept.p99<5ms", "accept_delay, accept_response"),
        ("p99<5ms", "PHASE.STATISTIC"),
        ("accept_delay.p101<5ms", "p0 to p100"),
        ("accept_delay.p1e1<5ms", "p0 to p100"),
        ("accept_delay.median<5ms", "p0 to p100"),
        ("accept_delay.p99<5", "with its unit"),
        ("accept_delay.p99<-5ms", "with its unit"),
        ("accept_delay.p99<5m", "with its unit"),
        ("accept_delay.p99<1.2.3ms", "with its unit"),
        ("accept_delay.p99<99%", "with its unit"),
        ("completed>101%", "0% to 100%"),
        ("completed>nan%", "0% to 100%"),
        ("completed>5ms", "no count"),
        ("complete>99%", "there is no outcome"),
        ("completed>99%%", "0% to 100%"),
    ] {
        assert!(error(text).contains(part), "{text}: {}", error(text));
    }
}

#[test]
fn a_run_is_aborted_once_the_condition_is_true_and_the_delay_over() {
    let condition: AbortCondition = "never_accepted>1@5s".parse().unwrap();
    assert_eq!(condition.check(&result(), 4_999_999_999), None);
    let aborted = condition.check(&result(), 5_000_000_000).unwrap();
    assert_eq!((aborted.expr.as_str(), aborted.value), ("never_accepted>1@5s", 2.0));
    assert_eq!(condition.check(&RunResult::default(), 5_000_000_000), None);
    let at_once: AbortCondition = "accept_delay.p99>1ms".parse().unwrap();
    assert!(at_once.check(&result(), 0).is_some());
    assert_eq!(at_once.check(&RunResult::default(), 0), None, "nothing is measured yet");
    for wrong in ["never_accepted>1@", "never_accepted>1@5", "nothing>1@5s", "@5s"] {
        assert!(wrong.parse::<AbortCondition>().is_err(), "{wrong}");
    }
}
