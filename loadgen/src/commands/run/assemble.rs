//! From what a run recorded to its result.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uring_echo::clock::realtime_ahead_ns;

use super::collect::Collected;
use super::observing::Observing;
use super::target_server::TargetServer;
use crate::analyse::pace::Pace;
use crate::analyse::verdict;
use crate::commands::envelope::{envelope, labels};
use crate::evidence::floor;
use crate::generate::{GeneratorPlan, TransportKind};
use crate::model::evidence::Evidence;
use crate::model::result::{Kind, RunResult, Times};
use crate::model::verdict::{Reason, Verdict};
use crate::plan::config::{RunConfig, Stop};
use crate::render::findings;
use crate::sys::time::{nanos, unix_ns};

/// Everything that is known when the load has ended.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) plan: Arc<GeneratorPlan>,
    pub(super) server: TargetServer,
    pub(super) observing: Observing,
    pub(super) transport: TransportKind,
    /// What the generator had to do without.
    pub(super) degraded: Vec<String>,
    pub(super) load_began: SystemTime,
    pub(super) load_ended: SystemTime,
    pub(super) collected: Collected,
    pub(super) evidence: io::Result<Evidence>,
    /// A signal ended it.
    pub(super) interrupted: bool,
}

impl Measured {
    /// The result, judged, and the server, which is still to be stopped.
    pub(super) fn into_result(self, typed: &[(String, String)]) -> (RunResult, TargetServer) {
        let mut result = envelope(Kind::Run, self.load_began);
        result.labels = labels(typed);
        result.shard = self.plan.config.shard.as_shard();
        result.target = self.observing.target(self.plan.target);
        result.server = self.observing.describe(self.server.description());
        result.load = Some(self.plan.config.load(self.plan.messages));
        result.interrupted = self.interrupted;
        result.generator.threads = self.plan.threads();
        result.generator.transport = Some(self.transport.name().into());
        result.generator.degraded = self.degraded;
        result.evidence = evidence(self.evidence, &mut result.problems);
        self.collected.aggregate.write_into(&mut result);
        let span = (unix_ns(self.load_began), unix_ns(self.load_ended));
        result.times = Some(times(&self.plan.config, span, result.generator.last_called_ns));
        result.generator.cpu = result.evidence.generator_cpu;
        let pace = Pace::of(&result);
        result.generator.target_rate = pace.map(|pace| pace.target);
        result.generator.achieved_rate = pace.map(|pace| pace.achieved);
        self.collected.tell(&mut result.problems);
        result.aborted = self.collected.aborted.clone();
        result.floor = floor::stored();
        result.verdict = judge(&result, &self.collected);
        (result, self.server)
    }
}

/// The instants of a load that began and ended at `span`.
fn times(config: &RunConfig, span: (u64, u64), last_called_ns: u64) -> Times {
    let (load_began, load_ended) = span;
    let measured_from = load_began + nanos(config.warmup);
    let planned_end = match config.stop {
        Stop::After(duration) => measured_from + nanos(duration),
        Stop::Connections(_) => load_began + last_called_ns,
    };
    Times { load_began, measured_from, measured_to: planned_end.min(load_ended), load_ended }
}

impl Collected {
    fn tell(&self, problems: &mut Vec<String>) {
        if let Some(status) = self.server_ended {
            problems.push(format!(
                "the embedded server ended during the run ({status}); its last lines are above"
            ));
        }
        if let Some(error) = &self.generator_failed {
            let cause = std::error::Error::source(error);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            problems.push(format!("a generator thread gave up: {error}{cause}"));
        }
    }
}

/// Where the readings are lost, the measurement is not.
fn evidence(read: io::Result<Evidence>, problems: &mut Vec<String>) -> Evidence {
    read.unwrap_or_else(|error| {
        let problem = format!("the kernel's evidence is missing: {error}");
        problems.push(problem.clone());
        Evidence { unreadable: vec![problem], ..Evidence::default() }
    })
}

fn judge(result: &RunResult, collected: &Collected) -> Verdict {
    let ended = collected.server_ended.map(|_| Reason::ServerEnded);
    let failed = collected.generator_failed.as_ref().map(|_| Reason::GeneratorFailed);
    let reasons = ended.into_iter().chain(failed).chain(verdict::reasons(result));
    let advice = verdict::advice(result);
    Verdict::of(
        reasons.map(|reason| findings::reason_given(&reason, &result.evidence)).collect(),
        advice.iter().map(findings::advice).collect(),
    )
}

/// An instant of the monotonic clock by the clock of the day.
pub(super) fn realtime_of(monotonic: u64) -> SystemTime {
    let since_1970 = monotonic.saturating_add_signed(realtime_ahead_ns());
    SystemTime::UNIX_EPOCH + Duration::from_nanos(since_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_that_is_over_is_not_told_as_now() {
        let told = realtime_of(uring_echo::clock::monotonic_ns() - 10_000_000_000);
        let ago = SystemTime::now().duration_since(told).expect("it is over");
        assert!(ago >= Duration::from_millis(9_999), "{ago:?}");
    }

    #[test]
    fn lost_evidence_is_told_and_costs_nothing_else() {
        let mut problems = Vec::new();
        let lost = evidence(Err(io::Error::other("the thread panicked")), &mut problems);
        assert_eq!(lost.unreadable, problems);
        assert!(problems[0].contains("panicked"), "{problems:?}");
        let kept = Evidence { elapsed_ns: 7, ..Evidence::default() };
        assert_eq!(evidence(Ok(kept.clone()), &mut problems), kept);
        assert_eq!(problems.len(), 1);
    }
}
