//! Kernel evidence of several results. Counters belong to a network namespace and a queue to a
//! server: parts that ran at the same time against the same one have counted the same.

use super::agreement::common;
use super::sums::{Span, cpu_added, cpu_over, union_ns};
use crate::model::evidence::{
    Conntrack, CpuUse, Evidence, KernelCounters, QUEUE_POINTS_MAX, QueueEvidence, QueuePoint,
    RetransmissionSchedule, RunDelay, Throttling, Unaccepted,
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
    server_run_delay: Option<RunDelay>,
}

impl Scene {
    fn of(result: &RunResult, span: Span) -> Self {
        let evidence = &result.evidence;
        Self {
            span,
            addr: result.target.addr.clone(),
            clock_domain: result.target.clock_domain.clone(),
            kernel: evidence.kernel,
            queue: evidence.accept_queue.clone().map(|queue| since_1970(queue, span.begin)),
            conntrack: evidence.conntrack,
            server_cpu: evidence.server_cpu,
            server_run_delay: evidence.server_run_delay,
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
        let delays = (self.server_run_delay, other.server_run_delay);
        self.server_run_delay = united(delays.0, delays.1, |one, other| match same_server {
            true => seen_twice(one, other),
            false => run_delays(one, other),
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
        let schedules = (self.own.retransmission_schedule, part.retransmission_schedule);
        self.own.retransmission_schedule =
            united(schedules.0, schedules.1, RetransmissionSchedule::merged);
        self.own.unaccepted = united(self.own.unaccepted, part.unaccepted, Unaccepted::merged);
        let most = |one: Throttling, other: Throttling| {
            if one.periods >= other.periods { one } else { other }
        };
        self.own.generator_throttled =
            united(self.own.generator_throttled, part.generator_throttled, most);
        self.own.server_throttled = united(self.own.server_throttled, part.server_throttled, most);
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

    /// The evidence of parts of which the first began at `began`, and how many parts added none of
    /// what others had counted too.
    pub(super) fn finish(self, began: u64) -> (Evidence, u64) {
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
            let delays = (sum.server_run_delay, scene.server_run_delay);
            sum.server_run_delay = united(delays.0, delays.1, run_delays);
        }
        if let Some(queue) = &mut sum.accept_queue {
            queue
                .series
                .iter_mut()
                .for_each(|point| point.at_ns = point.at_ns.saturating_sub(began));
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
    let wanted = one.samples_wanted.zip(other.samples_wanted);
    one.samples_wanted = wanted.map(|(one, other)| one.saturating_add(other));
    one.depth_mean = waiting / one.samples.max(1) as f64;
    one.listeners = one.listeners.max(other.listeners);
    one.limit = one.limit.min(other.limit);
    one.depth_max = one.depth_max.max(other.depth_max);
    one.samples_failed = one.samples_failed.saturating_add(other.samples_failed);
    one.drops = united(one.drops, other.drops, u64::saturating_add);
    one.series.extend(other.series);
    one.series.sort_by_key(|point| point.at_ns);
    while one.series.len() > QUEUE_POINTS_MAX {
        one.series = one.series.chunks(2).filter_map(deepest).collect();
    }
    one
}

/// The points of a part that began at `began`, so that those of parts can be put in order.
fn since_1970(mut queue: QueueEvidence, began: u64) -> QueueEvidence {
    queue.series.iter_mut().for_each(|point| point.at_ns = point.at_ns.saturating_add(began));
    queue
}

/// Adjacent points as one.
fn deepest(points: &[QueuePoint]) -> Option<QueuePoint> {
    let depth = points.iter().map(|point| point.depth).max()?;
    Some(QueuePoint { depth, ..*points.first()? })
}

/// Both saw the same waits, and each caused what it caused of them.
fn seen_twice(one: RunDelay, other: RunDelay) -> RunDelay {
    let total_ns = one.total_ns.max(other.total_ns);
    RunDelay { total_ns, ..run_delays(one, other) }
}

fn run_delays(one: RunDelay, other: RunDelay) -> RunDelay {
    RunDelay {
        total_ns: one.total_ns.saturating_add(other.total_ns),
        longest_thread_ns: one.longest_thread_ns.max(other.longest_thread_ns),
        generator_shares_cpus: one.generator_shares_cpus || other.generator_shares_cpus,
        held_by_generator_ns: united(
            one.held_by_generator_ns,
            other.held_by_generator_ns,
            u64::saturating_add,
        ),
    }
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
