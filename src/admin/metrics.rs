//! The metrics. Names, units and labels are what dashboards rely on.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::PoisonError;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Observed;
use crate::clock::process_cpu_ns;
use crate::engine::busy_poll::{BusyPollStats, LimitedBy};
use crate::engine::{LoopStats, Stats};
use crate::log;
use crate::ring::{AcceptQueue, accept_queue};
use crate::version::COMMIT;

/// Of a sample.
type Labels = Vec<(&'static str, String)>;

/// The counters of one worker at one moment.
struct Worker {
    label: String,
    echo: Stats,
    busy_poll: BusyPollStats,
    turns: LoopStats,
    max_connections: u32,
}

impl Worker {
    fn labels(&self) -> Labels {
        vec![("worker", self.label.clone())]
    }

    fn labels_and(&self, name: &'static str, value: &str) -> Labels {
        vec![("worker", self.label.clone()), (name, value.to_owned())]
    }
}

impl Collector for Observed {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let workers: Vec<_> = self.health.workers().iter().enumerate().map(read).collect();
        self.process(&mut families)?;
        connections(&mut families, &workers)?;
        traffic(&mut families, &workers)?;
        self.accept_queues(&mut families)?;
        if self.has_loop {
            pool(&mut families, &workers)?;
            loops(&mut families, &workers)?;
            busy_poll(&mut families, &workers)?;
        }
        Ok(())
    }
}

fn read((index, watched): (usize, &crate::health::Watched)) -> Worker {
    let counters = &watched.counters;
    Worker {
        label: index.to_string(),
        echo: counters.echo.read(),
        busy_poll: counters.busy_poll.read(),
        turns: counters.turns.read(),
        max_connections: watched.max_connections,
    }
}

impl Observed {
    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let version = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", COMMIT.unwrap_or("unknown").to_owned()),
        ];
        families.info("build", "The program.", &version)?;
        families.info("server", "How it was started.", &self.server)?;
        let ready = u64::from(self.health.readiness().is_ok());
        let alive = u64::from(self.health.stuck_worker().is_none());
        families.gauge("ready", "1 if new connections are served at once.", [(vec![], ready)])?;
        families.gauge("alive", "1 unless a worker is stuck.", [(vec![], alive)])?;
        let started = Seconds(self.started_ns).as_f64();
        let help = "When the server started, since 1970.";
        families.gauge(("start_time", &Unit::Seconds), help, [(vec![], started)])?;
        let cpu = Seconds(process_cpu_ns()).as_f64();
        let help = "CPU time of the process.";
        families.counter(("cpu", &Unit::Seconds), help, [(vec![], cpu)])?;
        let help = "Log lines that nobody read in time, or that could not be written.";
        families.counter("log_lines_lost", help, [(vec![], log::lost_lines())])?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = if groups.follow() { groups.read() } else { Vec::new() };
        let throttled = uses
            .iter()
            .enumerate()
            .map(|(level, group)| (vec![("level", level.to_string())], group.throttled));
        let help = "Periods in which a control group used up its CPU quota; level 0 is our own.";
        families.counter("cpu_throttled_periods", help, throttled)
    }

    /// Read from the kernel; a listener that is closed has no samples any more.
    fn accept_queues(&self, families: &mut Families<'_>) -> fmt::Result {
        let queues: Vec<(Labels, AcceptQueue)> = self
            .listeners
            .iter()
            .filter_map(|listener| {
                let socket = listener.socket.upgrade()?;
                let (addr, queue) = (listener.addr.to_string(), listener.queue.to_string());
                let labels = vec![("listener", addr), ("queue", queue)];
                Some((labels, accept_queue(socket.as_fd()).ok()?))
            })
            .collect();
        let each = |value: fn(&AcceptQueue) -> u32| {
            queues.iter().map(move |(labels, queue)| (labels.clone(), u64::from(value(queue))))
        };
        let help = "Connections that wait to be accepted.";
        families.gauge("accept_queue_depth", help, each(|queue| queue.depth))?;
        let help = "The backlog in force.";
        families.gauge("accept_queue_limit", help, each(|queue| queue.limit))?;
        let help =
            "What the kernel dropped at the listener, most of it because the queue was full.";
        families.counter("accept_queue_drops", help, each(|queue| queue.drops))
    }
}

/// A counter of [`Stats`], with its label where several make one family.
type Count = (&'static str, fn(&Stats) -> u64);

/// Why connections end.
const ENDS: [Count; 8] = [
    ("finished", |stats| stats.finished),
    ("reset", |stats| stats.reset),
    ("refused_by_ip", |stats| stats.refused_by_ip),
    ("idle_timeout", |stats| stats.idle_timeouts),
    ("no_progress", |stats| stats.write_timeouts),
    ("evicted", |stats| stats.evicted),
    ("defect", |stats| stats.slips),
    ("cut_short", |stats| stats.cut_short),
];

const ACCEPT_ERRORS: [Count; 2] =
    [("exhausted", |stats| stats.accept_exhausted), ("aborted", |stats| stats.accept_aborted)];

fn connections(families: &mut Families<'_>, workers: &[Worker]) -> fmt::Result {
    let help = "Connections taken from the kernel, refused ones included.";
    families.per_worker("connections_accepted", help, workers, |worker| worker.echo.accepted)?;
    let open = workers.iter().map(|w| (w.labels(), w.echo.accepted - w.echo.closed));
    families.gauge("connections_open", "Connections whose socket is open.", open)?;
    let most = workers.iter().map(|worker| (worker.labels(), worker.max_connections));
    families.gauge("connections_max", "The most connections that may be open.", most)?;
    let help = "Connections that ended, by reason.";
    families.per_worker_and("connections_closed", help, workers, ("reason", &ENDS))?;
    let help = "Accepts that failed: the system was short of something, or the peer went away.";
    families.per_worker_and("accept_errors", help, workers, ("error", &ACCEPT_ERRORS))?;
    let help = "Accepts that ended with the one connection that they brought.";
    families.per_worker("accepts_single", help, workers, |worker| worker.echo.accepted_singly)
}

fn traffic(families: &mut Families<'_>, workers: &[Worker]) -> fmt::Result {
    let received = workers.iter().map(|worker| (worker.labels(), worker.echo.bytes_in));
    families.counter(("received", &Unit::Bytes), "Bytes received.", received)?;
    let sent = workers.iter().map(|worker| (worker.labels(), worker.echo.bytes_out));
    families.counter(("sent", &Unit::Bytes), "Bytes that the kernel took for sending.", sent)?;
    families.per_worker("sends", "Sends asked for.", workers, |worker| worker.echo.sends)?;
    let help = "Sends that the socket had no room for, or not for all of it.";
    families.per_worker("send_stalls", help, workers, |worker| worker.echo.stalls)
}

fn pool(families: &mut Families<'_>, workers: &[Worker]) -> fmt::Result {
    let gauge = |value: fn(&LoopStats) -> u32| {
        workers.iter().map(move |worker| (worker.labels(), value(&worker.turns)))
    };
    families.gauge("pool_buffers", "Receive buffers.", gauge(|turns| turns.buffers))?;
    let help = "Receive buffers that are not free.";
    families.gauge("pool_buffers_in_use", help, gauge(|turns| turns.buffers_in_use))?;
    let help = "Connections that wait for a buffer.";
    families.gauge("connections_parked", help, gauge(|turns| turns.parked))?;
    let help = "Times a connection had to wait for a buffer.";
    families.per_worker("parks", help, workers, |worker| worker.echo.parked)?;
    let help = "Times a receive was stopped because its connection held its credit.";
    families.per_worker("credit_stops", help, workers, |worker| worker.echo.credit_stops)
}

fn loops(families: &mut Families<'_>, workers: &[Worker]) -> fmt::Result {
    let help = "Completions that one turn of a worker's loop handled.";
    let family = families.0.encode_descriptor("loop_events", help, None, MetricType::Histogram);
    let mut family = family?;
    for worker in workers {
        let turns = worker.turns.turns.iter().enumerate();
        #[allow(clippy::cast_precision_loss, reason = "bounds are small, sums are read as floats")]
        let buckets: Vec<_> = turns
            .map(|(at, count)| {
                (LoopStats::bound(at).map_or(f64::INFINITY, |most| most as f64), *count)
            })
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "bounds are small, sums are read as floats")]
        let sum = worker.turns.events as f64;
        let count = worker.turns.all_turns();
        let labels = worker.labels();
        let mut family = family.encode_family(&labels)?;
        family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn busy_poll(families: &mut Families<'_>, workers: &[Worker]) -> fmt::Result {
    let outcomes = |value: fn(&BusyPollStats) -> [u64; 2]| {
        workers.iter().flat_map(move |worker| {
            let named = ["fruitful", "fruitless"].into_iter().zip(value(&worker.busy_poll));
            named.map(|(outcome, value)| (worker.labels_and("outcome", outcome), value))
        })
    };
    let help = "Time spun; fruitful if something came meanwhile.";
    let spun = outcomes(|stats| [stats.fruitful_ns, stats.fruitless_ns]);
    let spun = spun.map(|(labels, ns)| (labels, Seconds(ns).as_f64()));
    families.counter(("busy_poll", &Unit::Seconds), help, spun)?;
    let help = "Waits that began with spinning; fruitful if they ended during it.";
    let waits = outcomes(|stats| [stats.fruitful, stats.fruitless]);
    families.counter("busy_poll_waits", help, waits)?;
    let help = "Times a worker was preempted while it was spinning.";
    families.per_worker("busy_poll_preemptions", help, workers, |w| w.busy_poll.preemptions)?;
    let limits = [LimitedBy::None, LimitedBy::Contention, LimitedBy::Quota];
    let limited = workers.iter().flat_map(|worker| {
        limits.into_iter().map(|limit| {
            let holds = u32::from(worker.busy_poll.limited_by == limit);
            (worker.labels_and("by", limit.name()), holds)
        })
    });
    families.gauge("busy_poll_limited", "1 for what limits spinning now.", limited)
}

/// Nanoseconds, told in seconds.
struct Seconds(u64);

impl Seconds {
    #[allow(clippy::cast_precision_loss, reason = "a microsecond more or less in a century")]
    fn as_f64(&self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Name of a family, with what its values are counted in.
struct Name<'a> {
    name: &'a str,
    unit: Option<&'a Unit>,
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, unit: None }
    }
}

impl<'a> From<(&'a str, &'a Unit)> for Name<'a> {
    fn from((name, unit): (&'a str, &'a Unit)) -> Self {
        Self { name, unit: Some(unit) }
    }
}

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn counter<'n, V: EncodeCounterValue>(
        &mut self,
        name: impl Into<Name<'n>>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name.into(), help, MetricType::Counter, samples)
    }

    fn gauge<'n, V: EncodeGaugeValue>(
        &mut self,
        name: impl Into<Name<'n>>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name.into(), help, MetricType::Gauge, samples)
    }

    fn per_worker(
        &mut self,
        name: &str,
        help: &str,
        workers: &[Worker],
        value: fn(&Worker) -> u64,
    ) -> fmt::Result {
        self.counter(name, help, workers.iter().map(|worker| (worker.labels(), value(worker))))
    }

    /// A sample for each of `counts`, named by a label.
    fn per_worker_and(
        &mut self,
        name: &str,
        help: &str,
        workers: &[Worker],
        (label, counts): (&'static str, &[Count]),
    ) -> fmt::Result {
        let samples = workers.iter().flat_map(|worker| {
            counts
                .iter()
                .map(move |(value, count)| (worker.labels_and(label, value), count(&worker.echo)))
        });
        self.counter(name, help, samples)
    }

    fn family(
        &mut self,
        Name { name, unit }: Name<'_>,
        help: &str,
        kind: MetricType,
        samples: impl Iterator<Item = (Labels, impl EncodeMetric)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, metric) in samples {
            if labels.is_empty() {
                metric.encode(family)?;
                return Ok(());
            }
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
