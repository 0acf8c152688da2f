//! Can the numbers be trusted, and what do they suggest?
//!
//! A [`Reason`] makes a run INVALID: the generator or the measurement fell short. [`Advice`] is
//! about what was measured and leaves the verdict alone.

mod advice;
mod reason;

pub use advice::Advice;
pub use reason::Reason;

use crate::evidence::Evidence;
use crate::generate::aggregation::quantile;
use crate::generate::recorder::{Counts, Interval, Outcome, Phase};
use crate::plan::config::{Arrivals, Observe, RunConfig, Shape, Stop};
use crate::plan::schedule::nanos;

/// Lateness of the generator that is still tolerated, p99.
pub const LAG_P99_MAX_NS: u64 = 1_000_000;
/// Share of the planned rate that must be reached.
pub const RATE_SHARE_MIN: f64 = 0.99;
/// Samples below which a p99 means nothing.
pub const SAMPLES_MIN: u64 = 100;
/// Share of the conntrack table that is called nearly full.
const CONNTRACK_NEARLY_FULL: f64 = 0.9;

/// The verdict on a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Why the run is INVALID; empty when it is VALID.
    pub reasons: Vec<Reason>,
    /// What was noticed, and what to do about it.
    pub advice: Vec<Advice>,
}

/// Planned and achieved connects per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// As planned.
    pub target: f64,
    /// Connects called, over the time they took.
    pub achieved: f64,
}

impl Verdict {
    /// Judges a run from everything it recorded.
    pub fn of(config: &RunConfig, all: &Interval, evidence: &Evidence, interrupted: bool) -> Self {
        Self { reasons: reasons(config, all, interrupted), advice: advice(all, evidence) }
    }

    /// Whether the numbers can be trusted.
    pub fn valid(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Pace {
    /// Pace of an open loop; `None` for other shapes and without connects.
    pub fn of(config: &RunConfig, all: &Interval) -> Option<Self> {
        let Shape::Rate { per_second, arrivals } = config.shape else { return None };
        let called = all.histogram(Phase::GeneratorLag).len();
        let counts = all.counts();
        if called == 0 {
            return None;
        }
        let planned_s = planned_seconds(config.stop, counts, config, per_second);
        let taken_s = since_warmup(counts.last_called_ns, config).max(planned_s);
        let target = match arrivals {
            Arrivals::Constant => per_second,
            // The drawn arrivals are the plan: their number differs from the rate by chance.
            Arrivals::Poisson => approx(counts.attempted) / planned_s,
        };
        Some(Self { target, achieved: approx(called) / taken_s })
    }
}

fn reasons(config: &RunConfig, all: &Interval, interrupted: bool) -> Vec<Reason> {
    let counts = all.counts();
    let mut reasons = Vec::new();
    if interrupted {
        reasons.push(Reason::Interrupted);
    }
    reasons.extend(generator_lag(config, all));
    // An interrupted run did not have the time its plan needed.
    let pace = Pace::of(config, all).filter(|_| !interrupted);
    let slow = pace.filter(|p| p.achieved < RATE_SHARE_MIN * p.target);
    reasons.extend(slow.map(Reason::RateNotReached));
    reasons.extend(some(counts.outcome(Outcome::Shed)).map(|count| Reason::Shed { count }));
    reasons.extend(too_few_samples(config, all));
    let clock_errors = some(counts.outcome(Outcome::ClockError));
    reasons.extend(clock_errors.map(|count| Reason::ClockErrors { count }));
    reasons.extend(some(counts.clipped).map(|count| Reason::Clipped { count }));
    let unaccounted = counts.attempted.abs_diff(counts.finished());
    reasons.extend(some(unaccounted).map(|count| Reason::Unaccounted { count }));
    reasons
}

/// A burst cannot enter at one instant, but must have entered before the next is due. A closed
/// loop has no plan to be late for.
fn generator_lag(config: &RunConfig, all: &Interval) -> Option<Reason> {
    let limit_ns = match config.shape {
        Shape::Rate { .. } => LAG_P99_MAX_NS,
        Shape::Burst { every: Some(every), .. } => nanos(every),
        Shape::Burst { every: None, .. } | Shape::Closed { .. } => return None,
    };
    let p99_ns = quantile(all.histogram(Phase::GeneratorLag), 0.99)?;
    (p99_ns > limit_ns).then_some(Reason::GeneratorLag { p99_ns, limit_ns })
}

/// Where nobody was to observe accepts, connects are what there is.
fn too_few_samples(config: &RunConfig, all: &Interval) -> Option<Reason> {
    let unseen = all.histogram(Phase::AcceptDelay).is_empty();
    let unobserved = match config.observe {
        Observe::None => true,
        Observe::Auto => unseen && all.counts().outcome(Outcome::Completed) > 0,
        Observe::Stamp | Observe::Diag => false,
    };
    let phase = if unobserved { Phase::Connect } else { Phase::AcceptDelay };
    let count = all.histogram(phase).len();
    (count < SAMPLES_MIN).then_some(Reason::TooFewSamples { phase, count })
}

fn advice(all: &Interval, evidence: &Evidence) -> Vec<Advice> {
    let outcome = |outcome| some(all.counts().outcome(outcome));
    let mut advice = Vec::new();
    advice.extend(queue_advice(evidence));
    let schedule = evidence.retransmit_schedule.unwrap_or_default();
    let on_schedule = some(schedule.connect.max(schedule.accept_delay));
    advice.extend(on_schedule.map(|count| Advice::OnRetransmitSchedule { count }));
    advice.extend(conntrack_advice(evidence));
    advice.extend(outcome(Outcome::Refused).map(|count| Advice::Refused { count }));
    advice.extend(outcome(Outcome::NeverAccepted).map(|count| Advice::NeverAccepted { count }));
    advice.extend(outcome(Outcome::StampInvalid).map(|count| Advice::NoStamp { count }));
    let ports = outcome(Outcome::LocalPortExhausted);
    advice.extend(ports.map(|count| Advice::PortsExhausted { count }));
    let descriptors = outcome(Outcome::FdLimit);
    advice.extend(descriptors.map(|count| Advice::DescriptorsExhausted { count }));
    advice.extend(some(all.counts().censored).map(|count| Advice::Unfinished { count }));
    advice.extend(some(evidence.samples_missed).map(|count| Advice::SamplesMissed { count }));
    if all.histogram(Phase::AcceptDelay).is_empty() && !all.histogram(Phase::Connect).is_empty() {
        advice.push(Advice::NotObserved);
    }
    advice
}

fn queue_advice(evidence: &Evidence) -> Vec<Advice> {
    let Some(kernel) = evidence.kernel else { return Vec::new() };
    let mut advice = Vec::new();
    let limit = evidence.accept_queue.map(|queue| queue.limit);
    let somaxconn = evidence.settings.somaxconn;
    let overflowed = some(kernel.listen_overflows);
    advice.extend(overflowed.map(|count| Advice::QueueOverflowed { count, limit, somaxconn }));
    let (cookies, dropped) = (kernel.syncookies_sent, kernel.tcp_req_q_full_drop);
    advice.extend(some(cookies + dropped).map(|_| Advice::SynQueueFull { cookies, dropped }));
    advice
}

fn conntrack_advice(evidence: &Evidence) -> Option<Advice> {
    let table = evidence.conntrack?;
    let (peak, limit) = (table.count_peak, table.limit);
    if let Some(count) = some(table.drop + table.insert_failed + table.early_drop) {
        return Some(Advice::ConntrackLost { count });
    }
    let full = approx(peak) > CONNTRACK_NEARLY_FULL * approx(limit);
    full.then_some(Advice::ConntrackNearlyFull { peak, limit })
}

/// Length of the plan: a limited number of arrivals ends one gap after the last.
fn planned_seconds(stop: Stop, counts: &Counts, config: &RunConfig, per_second: f64) -> f64 {
    match stop {
        Stop::After(duration) => duration.as_secs_f64(),
        Stop::Connections(_) => since_warmup(counts.last_intended_ns, config) + per_second.recip(),
    }
}

fn since_warmup(ns: u64, config: &RunConfig) -> f64 {
    approx(ns.saturating_sub(nanos(config.warmup))) / 1e9
}

fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

#[expect(clippy::cast_precision_loss, reason = "shares and rates need no more than 53 bits")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Conntrack, KernelCounters, RetransmitSchedule};
    use crate::generate::recorder::Recorder;
    use crate::plan::config::typed;

    fn config(args: &str) -> RunConfig {
        typed(args).expect(args)
    }

    /// `n` connections, 1 ms apart, each `lag_ns` late and accepted after 10 µs.
    fn run(n: u64, lag_ns: u64) -> Recorder {
        let mut recorder = Recorder::new();
        for i in 0..n {
            recorder.attempt();
            recorder.connect_called(i * 1_000_000, i * 1_000_000 + lag_ns);
            recorder.record(Phase::Connect, 9_000);
            recorder.record(Phase::AcceptDelay, 10_000);
            recorder.outcome(Outcome::Completed, None);
        }
        recorder
    }

    fn judge(args: &str, mut recorder: Recorder) -> Verdict {
        let all = recorder.take_interval(1, Interval::new());
        Verdict::of(&config(args), &all, &Evidence::default(), false)
    }

    fn codes(verdict: &Verdict) -> Vec<&'static str> {
        verdict.reasons.iter().map(Reason::code).collect()
    }

    #[test]
    fn a_punctual_run_is_valid() {
        let verdict = judge("--rate 1000 --connections 1000", run(1000, 5_000));
        assert_eq!(verdict, Verdict::default());
        assert!(judge("--rate 1000 --duration 1s", run(1000, 5_000)).valid());
    }

    #[test]
    fn lateness_counts_against_the_shape_that_planned_it() {
        let late = || run(1000, 1_500_000);
        let verdict = judge("--rate 1000 --connections 1000", late());
        assert_eq!(codes(&verdict), ["generator_lag"]);
        assert!(verdict.reasons[0].to_string().contains("1.50ms"), "{}", verdict.reasons[0]);
        assert!(judge("--burst 1000", late()).valid());
        assert!(judge("--burst 1000 --every 1s", late()).valid());
        assert!(!judge("--burst 1000 --every 1ms", late()).valid());
        assert!(judge("--concurrency 5", late()).valid());
    }

    #[test]
    fn a_rate_that_was_not_reached_is_named_with_what_was() {
        let verdict = judge("--rate 2000 --duration 1s", run(1000, 0));
        assert_eq!(codes(&verdict), ["rate_not_reached"]);
        let words = verdict.reasons[0].to_string();
        assert!(words.starts_with("1,000 connects per second were reached of 2,000"), "{words}");
        // The number of Poisson arrivals varies by chance: what was drawn is the plan.
        assert!(judge("--rate 1050 --arrivals poisson --duration 1s", run(1000, 0)).valid());
    }

    #[test]
    fn whatever_was_lost_invalidates() {
        let mut recorder = run(50, 0);
        recorder.attempt();
        recorder.outcome(Outcome::Shed, None);
        recorder.attempt();
        recorder.outcome(Outcome::ClockError, None);
        recorder.attempt();
        recorder.record(Phase::EchoRtt, u64::MAX);
        let verdict = judge("--concurrency 1", recorder);
        let expected = ["shed", "too_few_samples", "clock_errors", "clipped", "unaccounted"];
        assert_eq!(codes(&verdict), expected);
    }

    #[test]
    fn an_interrupted_run_is_not_blamed_for_its_rate() {
        let all = run(500, 0).take_interval(1, Interval::new());
        let config = config("--rate 1000 --duration 10s");
        let verdict = Verdict::of(&config, &all, &Evidence::default(), true);
        assert_eq!(codes(&verdict), ["interrupted"]);
    }

    #[test]
    fn evidence_turns_into_advice() {
        let evidence = Evidence {
            kernel: Some(KernelCounters {
                listen_overflows: 197,
                syncookies_sent: 2,
                ..KernelCounters::default()
            }),
            conntrack: Some(Conntrack { count_peak: 95, limit: 100, ..Conntrack::default() }),
            retransmit_schedule: Some(RetransmitSchedule { connect: 1, accept_delay: 0 }),
            samples_missed: 3,
            ..Evidence::default()
        };
        let mut recorder = Recorder::new();
        recorder.record(Phase::Connect, 5);
        recorder.censored(7);
        recorder.outcome(Outcome::Refused, Some(111));
        let all = recorder.take_interval(1, Interval::new());
        let advice = advice(&all, &evidence);
        let codes: Vec<_> = advice.iter().map(Advice::code).collect();
        let expected = [
            "accept_queue_overflowed",
            "syn_queue_full",
            "retransmit_schedule",
            "conntrack_nearly_full",
            "refused",
            "unfinished",
            "looks_missed",
            "accept_not_observed",
        ];
        assert_eq!(codes, expected);
        assert!(advice[0].to_string().contains("197 times"), "{}", advice[0]);
    }
}
