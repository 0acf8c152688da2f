//! Kernel evidence of several results. Counters belong to a network namespace and a queue to a
//! server: parts that ran at the same time against the same one have counted the same.

use super::agreement::common;
use super::sums::{Span, cpu_added, cpu_over, union_ns};
use crate::model::evidence::{
    Conntrack, CpuUse, Evidence, KernelCounters, QueueEvidence, RetransmissionSchedule,
};
use crate::model::result::RunResult;

/// The evidence added so far.
#[derive(Debug, Default)]
pub(super) struct EvidenceSum {
    scenes: Vec<Scene>,
    /// What each part has of its own.
    own: Evidence,
    parts: u64,
    spans: Vec<Span>,
}

/// What was counted at one time in one kernel: the most that any part saw of it.
#[derive(Debug)]
struct Scene {
    span: Span,
    addr: String,
    clock_domain: Option<String>,
    kernel: Option<KernelCounters>,
    queue: Option<QueueEvidence>,
    conntrack: Option<Conntrack>,
    server_cpu: Option<CpuUse>,
}

impl Scene {
    fn of(result: &RunResult, span: Span) -> Self {
        let evidence = &result.evidence;
        Self {
            span,
            addr: result.target.addr.clone(),
            clock_domain: result.target.clock_domain.clone(),
            kernel: evidence.kernel,
            queue: evidence.accept_queue.as_ref().cloned(),
            conntrack: evidence.conntrack,
            server_cpu: evidence.server_cpu,
        }
    }

    /// The same kernel, as far as is known: clock domains tell machines apart, addresses where
    /// they are not known.
    fn is_shared_with(&self, other: &Self) -> bool {
        let same = match (&self.clock_domain, &other.clock_domain) {
            (Some(one), Some(other)) => one == other,
            _ => self.addr == other.addr,
        };
        same && self.span.overlaps(other.span)
    }

    fn unite(&mut self, other: Self) {
        let same_server = self.addr == other.addr;
        self.span = self.span.with(other.span);
        self.kernel = united(self.kernel, other.kernel, |one, other| one.each(&other, u64::max));
        self.conntrack = united(self.conntrack, other.conntrack, |one, other| {
            if one.count_peak >= other.count_peak { one } else { other }
        });
        let deeper = |one: QueueEvidence, other: QueueEvidence| {
            if one.depth_max >= other.depth_max { one } else { other }
        };
        self.queue = united(self.queue.take(), other.queue, deeper);
        self.server_cpu =
            united(self.server_cpu, other.server_cpu, |one, other| match same_server {
                true if one.cpu_ns >= other.cpu_ns => one,
                true => other,
                false => cpu_added(one, other),
            });
    }
}

fn united<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

impl EvidenceSum {
    pub(super) fn add(&mut self, result: &RunResult, span: Span) {
        let scene = Scene::of(result, span);
        match self.scenes.iter_mut().find(|known| known.is_shared_with(&scene)) {
            Some(known) => known.unite(scene),
            None => self.scenes.push(scene),
        }
        let part = &result.evidence;
        self.own.settings = match self.parts {
            0 => part.settings.clone(),
            _ => common("settings", &self.own.settings, &part.settings, &mut Vec::new()),
        };
        let schedule =
            |one: RetransmissionSchedule, other: RetransmissionSchedule| RetransmissionSchedule {
                connect: one.connect.saturating_add(other.connect),
                accept_delay: one.accept_delay.saturating_add(other.accept_delay),
            };
        let schedules = (self.own.retransmission_schedule, part.retransmission_schedule);
        self.own.retransmission_schedule = united(schedules.0, schedules.1, schedule);
        self.own.samples_missed = self.own.samples_missed.saturating_add(part.samples_missed);
        self.own.generator_cpu = united(self.own.generator_cpu, part.generator_cpu, cpu_added);
        for line in &part.unreadable {
            if !self.own.unreadable.contains(line) {
                self.own.unreadable.push(line.clone());
            }
        }
        self.spans.push(span);
        self.parts += 1;
    }

    /// The evidence, and how many parts added none of what others had counted too.
    pub(super) fn finish(self) -> (Evidence, u64) {
        let shared = self.parts - self.scenes.len() as u64;
        let mut sum = self.own;
        sum.elapsed_ns = union_ns(&self.spans);
        for scene in self.scenes {
            sum.kernel = united(sum.kernel, scene.kernel, |one, other| {
                one.each(&other, u64::saturating_add)
            });
            sum.accept_queue = united(sum.accept_queue, scene.queue, queues);
            sum.conntrack = united(sum.conntrack, scene.conntrack, conntracks);
            sum.server_cpu = united(sum.server_cpu, scene.server_cpu, cpu_added);
        }
        let covered = sum.elapsed_ns;
        sum.server_cpu = sum.server_cpu.map(|cpu| cpu_over(cpu, covered));
        sum.generator_cpu = sum.generator_cpu.map(|cpu| cpu_over(cpu, covered));
        (sum, shared)
    }
}

/// Of queues at different times, or of different servers.
fn queues(mut one: QueueEvidence, other: QueueEvidence) -> QueueEvidence {
    let weighted = |queue: &QueueEvidence| queue.depth_mean * queue.samples as f64;
    let waiting = weighted(&one) + weighted(&other);
    one.samples = one.samples.saturating_add(other.samples);
    one.depth_mean = waiting / one.samples.max(1) as f64;
    one.listeners = one.listeners.max(other.listeners);
    one.limit = one.limit.min(other.limit);
    one.depth_max = one.depth_max.max(other.depth_max);
    one.samples_failed = one.samples_failed.saturating_add(other.samples_failed);
    one
}

fn conntracks(one: Conntrack, other: Conntrack) -> Conntrack {
    Conntrack {
        count_start: one.count_start,
        count_peak: one.count_peak.max(other.count_peak),
        count_end: other.count_end,
        limit: one.limit.min(other.limit),
        drop: one.drop.saturating_add(other.drop),
        insert_failed: one.insert_failed.saturating_add(other.insert_failed),
        early_drop: one.early_drop.saturating_add(other.early_drop),
    }
}
