//! Can the numbers be trusted, and what do they suggest?
//!
//! A [`Reason`] makes a run INVALID: the generator or the measurement fell short. [`Advice`] is
//! about what was measured and leaves the verdict alone.

use super::causes;
use super::pace::Pace;
use crate::model::evidence::Conntrack;
use crate::model::load::{Load, Observe};
use crate::model::outcome::{Outcome, Outcomes, Phase};
use crate::model::result::RunResult;
use crate::model::verdict::{Advice, Reason};

/// Lateness of the generator that is still tolerated, p99.
pub const LAG_P99_MAX_NS: u64 = 1_000_000;
/// Share of the planned rate that must be reached.
pub const RATE_SHARE_MIN: f64 = 0.99;
/// Samples below which a p99 means nothing.
pub const SAMPLES_MIN: u64 = 100;
/// Share of the accepts that may have no sample.
pub const NOT_OBSERVED_SHARE_MAX: f64 = 0.01;
/// Share of the mean accept delay, or of all the time, for which the generator may have kept a CPU
/// from the server.
pub const RUN_DELAY_SHARE_MAX: f64 = 0.25;
/// Run delay per accept that is not worth mentioning: a few wake-ups on a busy core.
pub const RUN_DELAY_TOLERATED_NS: u64 = 50_000;
/// A burst that takes no longer than this to be called counts as one instant.
const BURST_ENTRY_NS: u64 = 1_000_000;
/// Share of the conntrack table that is called nearly full.
const CONNTRACK_NEARLY_FULL: f64 = 0.9;

/// Why `result` cannot be trusted; empty if it can.
pub fn reasons(result: &RunResult) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if result.interrupted {
        reasons.push(Reason::Interrupted);
    }
    reasons.extend(generator_lag(result));
    match nothing_completed(result) {
        // Then neither pace nor length of the run is to blame.
        Some(nothing) => reasons.push(nothing),
        None => reasons.extend(rate_not_reached(result).into_iter().chain(too_few_samples(result))),
    }
    let outcome = |outcome| some(result.outcomes.of(outcome));
    reasons.extend(outcome(Outcome::NotBegun).map(|count| Reason::NotBegun { count }));
    reasons.extend(outcome(Outcome::Shed).map(|count| Reason::Shed { count }));
    reasons.extend(not_observed(result));
    reasons.extend(server_waited_for_cpu(result));
    reasons.extend(outcome(Outcome::ClockError).map(|count| Reason::ClockErrors { count }));
    reasons.extend(some(result.clipped).map(|count| Reason::Clipped { count }));
    let unaccounted = result.outcomes.attempted.abs_diff(result.outcomes.finished());
    reasons.extend(some(unaccounted).map(|count| Reason::Unaccounted { count }));
    reasons
}

/// What was noticed in `result`.
pub fn advice(result: &RunResult) -> Vec<Advice> {
    let outcome = |outcome| some(result.outcomes.of(outcome));
    let mut advice = Vec::new();
    advice.extend(causes::advice(result));
    advice.extend(result.evidence.conntrack.and_then(conntrack_advice));
    advice.extend(outcome(Outcome::Refused).map(|count| Advice::Refused { count }));
    advice.extend(outcome(Outcome::StampInvalid).map(|count| Advice::StampInvalid { count }));
    let ports = outcome(Outcome::LocalPortExhausted);
    advice.extend(ports.map(|count| Advice::LocalPortExhausted { count }));
    advice.extend(outcome(Outcome::FdLimit).map(|count| Advice::FdLimit { count }));
    advice.extend(causes::resets(result));
    advice.extend(some(unfinished(result)).map(|count| Advice::Unfinished { count }));
    let missed = some(result.evidence.samples_missed);
    advice.extend(missed.map(|count| Advice::SamplesMissed { count }));
    if result.samples(Phase::AcceptDelay) == 0 && result.samples(Phase::Connect) > 0 {
        advice.push(Advice::AcceptNotObserved);
    }
    advice.extend(load_advice(result));
    advice
}

/// What the shape of the load does to the numbers.
fn load_advice(result: &RunResult) -> Option<Advice> {
    let load = result.load.as_ref()?;
    match (load.concurrency, load.burst) {
        (Some(concurrency), _) => Some(Advice::ClosedLoop { concurrency }),
        (None, Some(burst)) => {
            let entered_ns = result.sampled(Phase::GeneratorLag)?.max?;
            (entered_ns > BURST_ENTRY_NS).then_some(Advice::BurstEntry { burst, entered_ns })
        }
        (None, None) => None,
    }
}

/// A burst cannot enter at one instant, but must have entered before the next is due. A closed
/// loop has no plan to be late for.
fn generator_lag(result: &RunResult) -> Option<Reason> {
    let limit_ns = lag_limit_ns(result.load.as_ref()?)?;
    let p99_ns = result.sampled(Phase::GeneratorLag)?.p99?;
    (p99_ns > limit_ns).then_some(Reason::GeneratorLag { p99_ns, limit_ns })
}

fn lag_limit_ns(load: &Load) -> Option<u64> {
    match load.shape.as_str() {
        "rate" => Some(LAG_P99_MAX_NS),
        "burst" => load.every_ns,
        _ => None,
    }
}

/// An interrupted run did not have the time its plan needed.
fn rate_not_reached(result: &RunResult) -> Option<Reason> {
    let Pace { target, achieved } = Pace::of(result).filter(|_| !result.interrupted)?;
    (achieved < RATE_SHARE_MIN * target).then_some(Reason::RateNotReached { target, achieved })
}

/// Samples that are missing are no random choice: an attempt that ends early is a fast one or a
/// failed one.
fn not_observed(result: &RunResult) -> Option<Reason> {
    let count = result.not_observed?.saturating_sub(causes::resets_on_overflow(result));
    let observed = result.samples(Phase::AcceptDelay);
    let share = approx(count) / approx((count + observed).max(1));
    (share > NOT_OBSERVED_SHARE_MAX).then_some(Reason::NotObserved { count, observed })
}

/// A run delay counts as far as the generator may have caused it, and not where threads of the
/// server waited for each other or for somebody else. Accepts that come one by one are late by what
/// it kept per accept; where there is always one waiting, by its share of the time.
fn server_waited_for_cpu(result: &RunResult) -> Option<Reason> {
    let waited = result.evidence.server_run_delay.filter(|delay| delay.generator_shares_cpus)?;
    let accepts = result.sampled(Phase::AcceptDelay)?;
    let held_ns = waited.held_by_generator_ns;
    let caused_ns = held_ns.map_or(waited.total_ns, |held_ns| held_ns.min(waited.total_ns));
    let per_accept_ns = caused_ns / accepts.count;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of u64")]
    let accept_delay_ns = accepts.mean? as u64;
    let large = approx(per_accept_ns) > RUN_DELAY_SHARE_MAX * approx(accept_delay_ns);
    let elapsed_ns = some(result.evidence.elapsed_ns).filter(|_| held_ns.is_some());
    let all_along =
        elapsed_ns.is_some_and(|ns| approx(caused_ns) > RUN_DELAY_SHARE_MAX * approx(ns));
    let counts = all_along || (large && per_accept_ns > RUN_DELAY_TOLERATED_NS);
    counts.then_some(Reason::ServerWaitedForCpu { per_accept_ns, accept_delay_ns })
}

/// An interrupted run may have had no time to complete anything.
fn nothing_completed(result: &RunResult) -> Option<Reason> {
    let Outcomes { attempted, .. } = result.outcomes;
    if attempted == 0 || result.interrupted || result.outcomes.of(Outcome::Completed) > 0 {
        return None;
    }
    let ended = Outcome::ALL.map(|outcome| (result.outcomes.of(outcome), outcome));
    let (count, outcome) = ended.into_iter().max_by_key(|(count, _)| *count)?;
    (count > 0).then_some(Reason::NothingCompleted { attempted, outcome, count })
}

/// Where nobody observed accepts, connects are what there is.
fn too_few_samples(result: &RunResult) -> Option<Reason> {
    let phase = match result.target.observe {
        Observe::None => Phase::Connect,
        Observe::Auto | Observe::Stamp | Observe::Diag => Phase::AcceptDelay,
    };
    let (count, needed) = (result.samples(phase), SAMPLES_MIN);
    let attempted = result.outcomes.attempted;
    (count < needed).then_some(Reason::TooFewSamples { phase, count, needed, attempted })
}

/// Waits cut off by a time-out or by the end of the run. One that a reset ended has ended.
fn unfinished(result: &RunResult) -> u64 {
    let cut_off = [
        Outcome::ConnectTimeout,
        Outcome::NeverAccepted,
        Outcome::StampInvalid,
        Outcome::Unfinished,
    ];
    let cut_off: u64 = cut_off.iter().map(|&outcome| result.outcomes.of(outcome)).sum();
    result.censored.min(cut_off)
}

fn conntrack_advice(table: Conntrack) -> Option<Advice> {
    let (peak, limit) = (table.count_peak, table.limit);
    if let Some(count) = some(table.lost()) {
        return Some(Advice::ConntrackLost { count });
    }
    let full = approx(peak) > CONNTRACK_NEARLY_FULL * approx(limit);
    full.then_some(Advice::ConntrackNearlyFull { peak, limit })
}

fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

#[expect(clippy::cast_precision_loss, reason = "shares need no more than 53 bits")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::{
        Evidence, KernelCounters, QueueEvidence, RetransmissionSchedule, RunDelay,
    };
    use crate::model::histogram::{Summary, new_histogram};
    use crate::model::load::Arrivals;

    fn load(shape: &str) -> Load {
        Load { shape: shape.into(), ..Load::default() }
    }

    fn rate(per_second: f64) -> Load {
        Load { rate: Some(per_second), arrivals: Some(Arrivals::Constant), ..load("rate") }
    }

    fn summary(n: u64, ns: u64) -> Summary {
        let mut histogram = new_histogram();
        histogram.record_n(ns, n).unwrap();
        Summary::of(&histogram)
    }

    /// `n` connections, 1 ms apart, each `lag_ns` late and accepted after 10 µs.
    fn run(load: Load, n: u64, lag_ns: u64) -> RunResult {
        let mut result = RunResult { load: Some(load), ..RunResult::default() };
        result.target.observe = Observe::Diag;
        result.outcomes.attempted = n;
        result.outcomes.ended = [("completed".into(), n)].into();
        let last_ns = n.saturating_sub(1) * 1_000_000;
        result.generator.last_intended_ns = last_ns;
        result.generator.last_called_ns = last_ns + lag_ns;
        result.histograms = [
            ("generator_lag".into(), summary(n, lag_ns.max(1))),
            ("connect".into(), summary(n, 9_000)),
            ("accept_delay".into(), summary(n, 10_000)),
        ]
        .into();
        result
    }

    fn codes<T: serde::Serialize>(found: &[T]) -> Vec<String> {
        let code = |found: &T| serde_json::to_value(found).unwrap()["code"].clone();
        found.iter().map(|found| code(found).as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_punctual_run_is_valid() {
        let by_count = Load { connections: Some(1000), ..rate(1000.0) };
        assert_eq!(reasons(&run(by_count, 1000, 5_000)), []);
        let by_time = Load { duration_ns: Some(1_000_000_000), ..rate(1000.0) };
        assert_eq!(reasons(&run(by_time, 1000, 5_000)), []);
    }

    #[test]
    fn lateness_counts_against_the_shape_that_planned_it() {
        let late = |load| codes(&reasons(&run(load, 1000, 1_500_000)));
        assert_eq!(late(Load { connections: Some(1000), ..rate(1000.0) }), ["generator_lag"]);
        assert!(late(load("burst")).is_empty());
        assert!(late(Load { every_ns: Some(1_000_000_000), ..load("burst") }).is_empty());
        let often = Load { every_ns: Some(1_000_000), ..load("burst") };
        assert_eq!(late(often), ["generator_lag"]);
        assert!(late(load("closed")).is_empty());
    }

    #[test]
    fn a_rate_that_was_not_reached_is_named_with_what_was() {
        let second = Some(1_000_000_000);
        let half = run(Load { duration_ns: second, ..rate(2000.0) }, 1000, 0);
        let expected = Reason::RateNotReached { target: 2000.0, achieved: 1000.0 };
        assert_eq!(reasons(&half), [expected]);
        // The number of Poisson arrivals varies by chance: what was drawn is the plan.
        let poisson =
            Load { arrivals: Some(Arrivals::Poisson), duration_ns: second, ..rate(1050.0) };
        assert_eq!(reasons(&run(poisson, 1000, 0)), []);
    }

    #[test]
    fn whatever_was_lost_invalidates() {
        let mut result = run(load("closed"), 50, 0);
        result.outcomes.attempted += 3;
        result.outcomes.ended.extend([("shed".into(), 1), ("clock_error".into(), 1)]);
        result.clipped = 1;
        let expected = ["too_few_samples", "shed", "clock_errors", "clipped", "unaccounted"];
        assert_eq!(codes(&reasons(&result)), expected);
    }

    #[test]
    fn what_was_not_begun_or_not_observed_invalidates() {
        let mut result = run(load("closed"), 1000, 0);
        result.not_observed = Some(10);
        assert_eq!(reasons(&result), [], "1 % is tolerated");
        result.not_observed = Some(11);
        let expected = Reason::NotObserved { count: 11, observed: 1000 };
        assert_eq!(reasons(&result), [expected]);
        result.not_observed = None;
        result.outcomes.attempted += 5;
        result.outcomes.ended.insert("not_begun".into(), 5);
        assert_eq!(reasons(&result), [Reason::NotBegun { count: 5 }]);
    }

    #[test]
    fn a_server_without_a_cpu_invalidates_if_the_generator_may_be_the_cause() {
        let mut result = run(load("closed"), 1000, 0);
        let mut waited = |per_accept_ns: u64, generator_shares_cpus| {
            let total_ns = 1000 * per_accept_ns;
            let delay = RunDelay { total_ns, generator_shares_cpus, ..RunDelay::default() };
            result.evidence.server_run_delay = Some(delay);
            codes(&reasons(&result))
        };
        assert_eq!(waited(60_000, true), ["server_waited_for_cpu"]);
        assert!(waited(60_000, false).is_empty());
        assert!(waited(40_000, true).is_empty());
    }

    #[test]
    fn the_generator_is_blamed_for_no_more_than_it_kept_a_cpu() {
        let mut result = run(load("closed"), 1000, 0);
        let mut waited = |held_ns: u64, elapsed_ns| {
            let (total_ns, held_by_generator_ns) = (1000 * 300_000, Some(1000 * held_ns));
            let generator_shares_cpus = true;
            result.evidence.elapsed_ns = elapsed_ns;
            result.evidence.server_run_delay = Some(RunDelay {
                total_ns,
                generator_shares_cpus,
                held_by_generator_ns,
                ..RunDelay::default()
            });
            codes(&reasons(&result))
        };
        let (slow, fast) = (10_000_000_000, 30_000_000);
        assert!(waited(10_000, slow).is_empty(), "the rest is the server's own");
        assert_eq!(waited(60_000, slow), ["server_waited_for_cpu"]);
        assert_eq!(waited(10_000, fast), ["server_waited_for_cpu"], "a third of the time");
    }

    #[test]
    fn a_run_in_which_nothing_completed_is_invalid_whatever_was_sampled() {
        let mut result = run(load("closed"), 800, 0);
        result.outcomes.ended = [("echo_mismatch".into(), 794), ("refused".into(), 6)].into();
        let (outcome, count) = (Outcome::EchoMismatch, 794);
        let expected = Reason::NothingCompleted { attempted: 800, outcome, count };
        assert_eq!(reasons(&result), [expected]);
        // Not the length of the run is to blame, and not twice.
        result.histograms.clear();
        assert_eq!(reasons(&result), [expected]);
        result.outcomes.ended.insert("completed".into(), 1);
        result.outcomes.attempted += 1;
        assert_eq!(codes(&reasons(&result)), ["too_few_samples"]);
    }

    #[test]
    fn a_closed_loop_and_a_burst_that_takes_long_to_enter_are_told() {
        let closed = Load { concurrency: Some(4), ..load("closed") };
        assert_eq!(advice(&run(closed, 200, 0)), [Advice::ClosedLoop { concurrency: 4 }]);
        let burst = Load { burst: Some(200), ..load("burst") };
        assert_eq!(advice(&run(burst.clone(), 200, 900_000)), []);
        let told = advice(&run(burst, 200, 50_000_000));
        assert!(matches!(told[..], [Advice::BurstEntry { burst: 200, .. }]), "{told:?}");
    }

    #[test]
    fn an_interrupted_run_is_not_blamed_for_its_rate() {
        let planned = Load { duration_ns: Some(10_000_000_000), ..rate(1000.0) };
        let result = RunResult { interrupted: true, ..run(planned, 500, 0) };
        assert_eq!(reasons(&result), [Reason::Interrupted]);
    }

    #[test]
    fn evidence_turns_into_advice() {
        let mut result = run(load("closed"), 1, 0);
        result.histograms.remove("accept_delay");
        result.outcomes.ended.insert("refused".into(), 1);
        result.outcomes.ended.insert("unfinished".into(), 1);
        result.censored = 1;
        result.evidence = Evidence {
            kernel: Some(KernelCounters {
                listen_overflows: 197,
                syncookies_sent: 2,
                ..KernelCounters::default()
            }),
            conntrack: Some(Conntrack { count_peak: 95, limit: 100, ..Conntrack::default() }),
            retransmission_schedule: Some(RetransmissionSchedule {
                connect: 1,
                ..RetransmissionSchedule::default()
            }),
            accept_queue: Some(QueueEvidence { drops: Some(197), ..QueueEvidence::default() }),
            samples_missed: 3,
            ..Evidence::default()
        };
        let expected = [
            "accept_queue_overflowed",
            "syn_queue_full",
            "retransmission_schedule",
            "conntrack_nearly_full",
            "refused",
            "unfinished",
            "samples_missed",
            "accept_not_observed",
        ];
        assert_eq!(codes(&advice(&result)), expected);
    }
}
