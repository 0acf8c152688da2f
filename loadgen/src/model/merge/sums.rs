//! Sums of counts, and what becomes of rates and descriptions.

use hdrhistogram::Histogram;

use super::agreement::common;
use crate::model::evidence::CpuUse;
use crate::model::histogram::{Count, HistogramError};
use crate::model::load::{Load, Observe};
use crate::model::outcome::ErrnoCount;
use crate::model::result::{Generator, RunResult, Times};
use crate::model::server::Target;

/// From the first arrival to the last outcome, nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Span {
    /// A result of version 1 has its begin only as a date, and its end by its intervals.
    pub(super) fn of(result: &RunResult) -> Self {
        if let Some(times) = result.times {
            return Self { begin: times.load_began, end: times.load_ended.max(times.load_began) };
        }
        let date = humantime::parse_rfc3339(&result.started_at).ok();
        let since = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        let begin = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        let ends = result.intervals.iter().map(|i| i.start_ns.saturating_add(i.length_ns));
        let length = ends.max().unwrap_or(0).max(result.evidence.elapsed_ns);
        Self { begin, end: begin.saturating_add(length) }
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.begin < other.end && other.begin < self.end
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { begin: self.begin.min(other.begin), end: self.end.max(other.end) }
    }
}

/// The length of all spans together, where they overlap once.
pub(super) fn union_ns(spans: &[Span]) -> u64 {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| span.begin);
    let mut covered = 0;
    let mut length = 0u64;
    for span in spans {
        let begin = span.begin.max(covered);
        length = length.saturating_add(span.end.saturating_sub(begin));
        covered = covered.max(span.end);
    }
    length
}

/// Rates of parts: those that ran at the same time add up, others are averaged. That is the same
/// sum, of connections, over the time that is covered.
#[derive(Debug, Default)]
pub(super) struct Rates {
    spans: Vec<Span>,
    times: Option<Times>,
    /// Connections planned and called, or nothing if a part does not say.
    target: Option<f64>,
    achieved: Option<f64>,
    /// Of all generators.
    cpu: Option<CpuUse>,
}

impl Rates {
    pub(super) fn add(&mut self, result: &RunResult, span: Span) {
        let first = self.spans.is_empty();
        let measured = result.times.map_or(span, |times| Span {
            begin: times.measured_from,
            end: times.measured_to.max(times.measured_from),
        });
        let seconds = (measured.end - measured.begin) as f64 / 1e9;
        let sum = |sum: Option<f64>, rate: Option<f64>| {
            let part = rate? * seconds;
            if first { Some(part) } else { Some(sum? + part) }
        };
        self.target = sum(self.target, result.generator.target_rate);
        self.achieved = sum(self.achieved, result.generator.achieved_rate);
        self.cpu = match (first, self.cpu, result.generator.cpu) {
            (true, _, cpu) => cpu,
            (false, Some(one), Some(other)) => Some(cpu_added(one, other)),
            (false, ..) => None,
        };
        self.spans.push(measured);
        let mine = Times {
            load_began: span.begin,
            measured_from: measured.begin,
            measured_to: measured.end,
            load_ended: span.end,
        };
        let all = self.times.unwrap_or(mine);
        self.times = Some(Times {
            load_began: all.load_began.min(mine.load_began),
            measured_from: all.measured_from.min(mine.measured_from),
            measured_to: all.measured_to.max(mine.measured_to),
            load_ended: all.load_ended.max(mine.load_ended),
        });
    }

    pub(super) fn begin(&self) -> u64 {
        self.times().load_began
    }

    pub(super) fn times(&self) -> Times {
        let none = Times { load_began: 0, measured_from: 0, measured_to: 0, load_ended: 0 };
        self.times.unwrap_or(none)
    }

    pub(super) fn write_into(&self, result: &mut RunResult) {
        let covered = union_ns(&self.spans).max(1);
        let rate = |connections: f64| connections / (covered as f64 / 1e9);
        result.generator.target_rate = self.target.map(rate);
        result.generator.achieved_rate = self.achieved.map(rate);
        result.generator.cpu = self.cpu.map(|cpu| cpu_over(cpu, covered));
        let began = humantime_of(self.begin());
        result.started_at = began;
    }
}

fn humantime_of(unix_ns: u64) -> String {
    let instant = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(unix_ns);
    humantime::format_rfc3339_millis(instant).to_string()
}

/// The cores follow from the time that both cover: [`cpu_over`].
pub(super) fn cpu_added(one: CpuUse, other: CpuUse) -> CpuUse {
    CpuUse {
        cpu_ns: one.cpu_ns.saturating_add(other.cpu_ns),
        cores: 0.0,
        busiest_thread_cores: one.busiest_thread_cores.max(other.busiest_thread_cores),
        threads: one.threads.max(other.threads),
    }
}

/// Sums have no cores yet.
pub(super) fn cpu_over(cpu: CpuUse, covered_ns: u64) -> CpuUse {
    if cpu.cores > 0.0 {
        return cpu;
    }
    CpuUse { cores: cpu.cpu_ns as f64 / covered_ns.max(1) as f64, ..cpu }
}

/// Adds every count of a result that stands alone.
pub(super) fn counts(sum: &mut RunResult, part: &RunResult) {
    sum.outcomes = sum.outcomes.merged(&part.outcomes);
    sum.interrupted |= part.interrupted;
    for (sum, part) in [
        (&mut sum.errnos_other, part.errnos_other),
        (&mut sum.warmup_excluded, part.warmup_excluded),
        (&mut sum.accepted_before_return, part.accepted_before_return),
        (&mut sum.censored, part.censored),
        (&mut sum.clipped, part.clipped),
        (&mut sum.bytes_sent, part.bytes_sent),
        (&mut sum.bytes_received, part.bytes_received),
    ] {
        *sum = sum.saturating_add(part);
    }
    // Unknown in one part is unknown in the sum.
    for (sum, part) in [
        (&mut sum.accept_order_undetermined, part.accept_order_undetermined),
        (&mut sum.not_observed, part.not_observed),
    ] {
        *sum = sum.zip(part).map(|(sum, part)| sum.saturating_add(part));
    }
}

pub(super) fn errnos_added(one: &[ErrnoCount], other: &[ErrnoCount]) -> Vec<ErrnoCount> {
    let mut sum = one.to_vec();
    for part in other {
        let same =
            |known: &&mut ErrnoCount| (known.errno, &known.outcome) == (part.errno, &part.outcome);
        match sum.iter_mut().find(same) {
            Some(known) => known.count = known.count.saturating_add(part.count),
            None => sum.push(part.clone()),
        }
    }
    sum
}

/// Addresses are listed, as far as they fit a line.
pub(super) fn targets(one: &Target, other: &Target, differing: &mut Vec<String>) -> Target {
    const ADDRESSES: usize = 4;
    let mut addr = one.addr.clone();
    let known = addr.split(", ").count();
    if !addr.split(", ").any(|known| known == other.addr || known == "…") {
        addr += ", ";
        addr += if known < ADDRESSES { &other.addr } else { "…" };
    }
    let domain = one.clock_domain.clone().filter(|_| one.clock_domain == other.clock_domain);
    if one.observe != other.observe {
        differing.push("target.observe".into());
    }
    // The least exact of both ways.
    let exactness = [Observe::Stamp, Observe::Diag, Observe::Auto, Observe::None];
    let rank = |observe: &Observe| exactness.iter().position(|known| known == observe);
    let observe = [one.observe, other.observe].into_iter().max_by_key(rank);
    // Each generator has its own clock: what holds for all is the widest bound.
    let least_exact = [one.clock_offset, other.clock_offset].into_iter().flatten();
    let widest = [one.resolution, other.resolution].into_iter().flatten();
    Target {
        addr,
        clock_domain: domain,
        observe: observe.unwrap_or_default(),
        resolution: widest.max_by_key(|width| width.p99_ns),
        clock_offset: least_exact.max_by_key(|offset| offset.bound_ns),
    }
}

/// The load of one part, where all have the same; numbers of connections are added.
pub(super) fn loads(
    one: Option<&Load>,
    other: Option<&Load>,
    differing: &mut Vec<String>,
) -> Option<Load> {
    let (one, other) = (one?, other?);
    let alike = Load { connections: other.connections, seed: other.seed, ..one.clone() };
    if alike != *other {
        differing.push("load".into());
        return None;
    }
    let connections = added(one.connections, other.connections);
    Some(Load { connections, ..one.clone() })
}

/// The load that was divided into shards.
pub(super) fn divided_load(
    one: Option<&Load>,
    other: Option<&Load>,
    differing: &mut Vec<String>,
) -> Option<Load> {
    let (one, other) = (one?, other?);
    let whole = Load {
        rate: one.rate.zip(other.rate).map(|(one, other)| one + other),
        burst: added(one.burst, other.burst),
        concurrency: added(one.concurrency, other.concurrency),
        connections: added(one.connections, other.connections),
        start_at: one.start_at.min(other.start_at),
        ..one.clone()
    };
    let alike = Load {
        rate: other.rate,
        burst: other.burst,
        concurrency: other.concurrency,
        connections: other.connections,
        start_at: other.start_at,
        ..one.clone()
    };
    // Other seeds draw other plans.
    if alike != *other {
        differing.push("load".into());
        return None;
    }
    Some(whole)
}

fn added<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.zip(other).map(|(one, other)| one + other)
}

pub(super) fn generators(sum: &mut Generator, part: &Generator, differing: &mut Vec<String>) {
    if sum.transport != part.transport {
        differing.push("generator.transport".into());
        sum.transport = None;
    }
    sum.degraded = common("generator.degraded", &sum.degraded, &part.degraded, differing);
    sum.threads = sum.threads.max(part.threads);
    sum.last_intended_ns = sum.last_intended_ns.max(part.last_intended_ns);
    sum.last_called_ns = sum.last_called_ns.max(part.last_called_ns);
}

pub(super) fn add_counts(sum: &mut Histogram<u64>, counts: &[Count]) -> Result<(), HistogramError> {
    for (value, count) in counts {
        let added = sum.record_n(*value, *count);
        added.map_err(|error| HistogramError::Damaged(error.to_string()))?;
    }
    Ok(())
}

/// Both in one list, ascending by value.
pub(super) fn merge_counts(one: &[Count], other: &[Count]) -> Vec<Count> {
    let mut sum = Vec::with_capacity(one.len().max(other.len()));
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let next = match (one.peek(), other.peek()) {
            (Some(a), Some(b)) if a.0 == b.0 => {
                let both = (a.0, a.1.saturating_add(b.1));
                one.next();
                other.next();
                both
            }
            (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                let alone = **a;
                one.next();
                alone
            }
            (_, Some(b)) => {
                let alone = **b;
                other.next();
                alone
            }
            _ => return sum,
        };
        sum.push(next);
    }
}
