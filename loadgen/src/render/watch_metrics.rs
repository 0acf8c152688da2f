//! A watch as OpenMetrics: what `loadgen watch --export` answers to a scrape.
//!
//! Counters only ever rise: how waits are told may change while a watch goes on, so each second
//! adds what was told in it, and nothing is counted anew.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::prometheus::bounds;
use crate::model::watch::LIMIT_UNKNOWN;
use crate::model::watch_live::{ListenerSecond, WatchSecond};
use crate::sys::processes::Owners;

/// Where waits are counted that are of one of several listeners, and not known of which.
const ANY: &str = "any";

/// What is exported, as of the last second.
#[derive(Debug, Clone, Default)]
pub struct WatchMetrics {
    addr: String,
    mode: String,
    resolution_ns: u64,
    mean_wait_ns: Option<u64>,
    depth_time_ns: f64,
    ticks: u64,
    late_ticks: u64,
    cpu_ns: u64,
    restarts: u64,
    listeners: Vec<ListenerMetrics>,
    /// Of each listener that is there, and of [`ANY`].
    delays: BTreeMap<String, Delays>,
}

#[derive(Debug, Clone)]
struct ListenerMetrics {
    name: String,
    /// Process id and name.
    owners: Vec<(String, String)>,
    depth: u32,
    depth_max: u32,
    limit: u32,
    drops: u64,
    longest_wait_ns: Option<u64>,
}

/// Waits of one listener.
#[derive(Debug, Clone, Default)]
struct Delays {
    told: Buckets,
    /// What its depth had shown, of which only the rest is new.
    shown: Buckets,
}

/// Waits counted between the bounds; the last has no bound.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    counts: Vec<u64>,
    sum_ns: f64,
}

impl Buckets {
    fn of(histogram: &Histogram<u64>) -> Self {
        let mut buckets = Self::default();
        for step in histogram.iter_recorded() {
            let ns = histogram.lowest_equivalent(step.value_iterated_to());
            buckets.add(ns, step.count_since_last_iteration());
        }
        buckets
    }

    fn add(&mut self, ns: u64, count: u64) {
        let at = bounds().position(|bound| ns <= bound).unwrap_or_else(|| bounds().count());
        self.counts.resize(bounds().count() + 1, 0);
        self.counts[at] += count;
        self.sum_ns += ns as f64 * count as f64;
    }

    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn merge(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, more)| *mine += more);
        self.sum_ns += other.sum_ns;
    }

    fn without(mut self, earlier: &Self) -> Self {
        for (mine, less) in self.counts.iter_mut().zip(&earlier.counts) {
            *mine = mine.saturating_sub(*less);
        }
        self.sum_ns = (self.sum_ns - earlier.sum_ns).max(0.0);
        self
    }

    /// Seconds and count of each bucket from the resolution on: what is shorter cannot be told
    /// apart and is in the first.
    fn from(&self, resolution_ns: u64) -> Vec<(f64, u64)> {
        let mut below = 0;
        let mut buckets = Vec::new();
        for (bound, count) in bounds().zip(self.counts.iter().chain(std::iter::repeat(&0))) {
            if bound < resolution_ns {
                below += count;
                continue;
            }
            buckets.push((seconds(bound), std::mem::take(&mut below) + count));
        }
        let last = self.counts.get(bounds().count()).copied().unwrap_or(0);
        buckets.push((f64::INFINITY, below + last));
        buckets
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl WatchMetrics {
    /// Of a watch that begins.
    #[must_use]
    pub fn new(addr: String) -> Self {
        Self { addr, ..Self::default() }
    }

    /// Whether there is anything to tell.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.ticks > 0
    }

    /// Takes a second.
    pub fn advance(&mut self, second: &WatchSecond<'_>, owners: &Owners) {
        second.mode.clone_into(&mut self.mode);
        self.resolution_ns = second.resolution_ns;
        self.mean_wait_ns = second.mean_wait_ns;
        self.depth_time_ns = second.depth_time_ns;
        (self.ticks, self.late_ticks) = (second.ticks, second.late_ticks);
        (self.cpu_ns, self.restarts) = (second.cpu_ns, second.restarts);
        let listeners = second.listeners.iter();
        self.listeners = listeners.map(|one| ListenerMetrics::of(one, owners)).collect();
        self.forget_closed();
        let by_listener = matches!(second.listeners, [_]) || second.mode == "depth";
        for listener in second.listeners {
            self.take_waits(listener, second, by_listener);
        }
        if !by_listener {
            self.of_any(&Buckets::of(second.waits));
        }
        let mut unseen = Buckets::default();
        unseen.add(second.resolution_ns / 2, second.unseen);
        self.of_any(&unseen);
    }

    fn of_any(&mut self, waits: &Buckets) {
        if waits.total() > 0 {
            self.delays.entry(ANY.to_owned()).or_default().told.merge(waits);
        }
    }

    fn forget_closed(&mut self) {
        let listeners = &self.listeners;
        let there = |name: &String| listeners.iter().any(|one| one.name == *name);
        self.delays.retain(|name, _| name == ANY || there(name));
    }

    /// The waits of the only listener are those of the address; of several each has its own, where
    /// they are told by its depth.
    fn take_waits(
        &mut self,
        listener: &ListenerSecond<'_>,
        second: &WatchSecond<'_>,
        by_listener: bool,
    ) {
        let delays = self.delays.entry(listener.inode.to_string()).or_default();
        let shown = match listener.waits.len() == delays.shown.total() {
            true => delays.shown.clone(),
            false => Buckets::of(listener.waits),
        };
        let new = match second.listeners {
            [_] => Buckets::of(second.waits),
            _ if !by_listener => Buckets::default(),
            _ => shown.clone().without(&delays.shown),
        };
        delays.told.merge(&new);
        delays.shown = shown;
    }

    /// As OpenMetrics text.
    ///
    /// # Panics
    /// Never: a `String` takes whatever is written to it.
    #[must_use]
    pub fn text(&self) -> String {
        let addr = (Cow::Borrowed("addr"), Cow::Owned(self.addr.clone()));
        let mut registry = Registry::with_labels(std::iter::once(addr));
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes whatever is written to it");
        text
    }
}

impl ListenerMetrics {
    fn of(listener: &ListenerSecond<'_>, owners: &Owners) -> Self {
        let owners = owners.get(&listener.inode).into_iter().flatten();
        Self {
            name: listener.inode.to_string(),
            owners: owners.map(|owner| (owner.pid.to_string(), owner.name.clone())).collect(),
            depth: listener.depth,
            depth_max: listener.depth_max,
            limit: listener.limit,
            drops: listener.drops,
            longest_wait_ns: listener.longest_wait_ns,
        }
    }
}

/// Writes families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        kind: MetricType,
        samples: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let unit = unit.map(|unit| Unit::Other(unit.into()));
        samples(self.0.encode_descriptor(name, help, unit.as_ref(), kind)?)
    }

    fn counter(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        self.family(name, unit, help, MetricType::Counter, |mut encoder| {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.family(name, unit, help, MetricType::Gauge, |mut encoder| encoder.encode_gauge(&value))
    }

    /// A gauge of each listener that has a value.
    fn gauges(
        &mut self,
        (name, unit, help): (&str, Option<&str>, &str),
        listeners: &[ListenerMetrics],
        value: impl Fn(&ListenerMetrics) -> Option<f64>,
    ) -> fmt::Result {
        self.family(name, unit, help, MetricType::Gauge, |mut encoder| {
            listeners.iter().try_for_each(|one| match value(one) {
                Some(value) => encoder.encode_family(&one.label())?.encode_gauge(&value),
                None => Ok(()),
            })
        })
    }
}

impl ListenerMetrics {
    fn label(&self) -> [(&str, &str); 1] {
        [("listener", &self.name)]
    }
}

impl Collector for WatchMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families(encoder);
        self.infos(&mut to)?;
        self.queues(&mut to)?;
        self.waits(&mut to)?;
        self.watcher(&mut to)
    }
}

impl WatchMetrics {
    fn infos(&self, to: &mut Families<'_>) -> fmt::Result {
        let help = "How waits are told now, by which version of loadgen.";
        to.family("watch", None, help, MetricType::Info, |mut encoder| {
            let version = env!("CARGO_PKG_VERSION");
            encoder.encode_info(&[("mode", self.mode.as_str()), ("version", version)])
        })?;
        let help = "A process that holds the listener.";
        to.family("watch_listener", None, help, MetricType::Info, |mut encoder| {
            for one in &self.listeners {
                for (pid, process) in &one.owners {
                    let process = [("pid", pid.as_str()), ("process", process.as_str())];
                    encoder.encode_family(&one.label())?.encode_info(&process)?;
                }
            }
            Ok(())
        })?;
        let help = "Shorter waits cannot be told from each other.";
        to.gauge("watch_resolution", SECONDS, help, seconds(self.resolution_ns))
    }

    fn queues(&self, to: &mut Families<'_>) -> fmt::Result {
        let help = "Listeners of the address; 0 while nobody listens.";
        let listeners = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        to.gauge("watch_listeners", None, help, listeners)?;
        let all = &self.listeners;
        let help = "Connections that wait to be accepted.";
        to.gauges(("accept_queue_depth", None, help), all, |one| Some(one.depth.into()))?;
        let help = "Longest queue in any sample since the watch began.";
        to.gauges(("accept_queue_depth_max", None, help), all, |one| Some(one.depth_max.into()))?;
        let help = "Effective backlog: the smaller of backlog and net.core.somaxconn.";
        to.gauges(("accept_queue_limit", None, help), all, |one| {
            (one.limit != LIMIT_UNKNOWN).then(|| one.limit.into())
        })?;
        let help = "How long the oldest of those that wait has waited.";
        let longest = |one: &ListenerMetrics| one.longest_wait_ns.map(seconds);
        to.gauges(("accept_queue_longest_wait", SECONDS, help), all, longest)?;
        let help = "SYNs and connections dropped since the watch began, retransmitted SYNs \
                    included.";
        to.family("accept_queue_drops", None, help, MetricType::Counter, |mut encoder| {
            all.iter().try_for_each(|one| {
                let label = one.label();
                let mut encoder = encoder.encode_family(&label)?;
                encoder.encode_counter::<NoLabelSet, _, f64>(&one.drops, None)
            })
        })?;
        let help = "Length of the queues over time; its rate by that of the accepts is the mean \
                    wait.";
        to.counter("accept_queue_waiting", SECONDS, help, self.depth_time_ns / 1e9)
    }

    fn waits(&self, to: &mut Families<'_>) -> fmt::Result {
        let help = "Accepts whose wait is known.";
        to.family("accepts", None, help, MetricType::Counter, |mut encoder| {
            self.delays.iter().try_for_each(|(name, delays)| {
                let label = [("listener", name.as_str())];
                let mut encoder = encoder.encode_family(&label)?;
                encoder.encode_counter::<NoLabelSet, _, f64>(&delays.told.total(), None)
            })
        })?;
        let help = "From the end of the handshake to the accept.";
        to.family("accept_delay", SECONDS, help, MetricType::Histogram, |mut encoder| {
            self.delays.iter().try_for_each(|(name, Delays { told, .. })| {
                let label = [("listener", name.as_str())];
                let mut encoder = encoder.encode_family(&label)?;
                let (sum, buckets) = (told.sum_ns / 1e9, told.from(self.resolution_ns));
                encoder.encode_histogram::<NoLabelSet>(sum, told.total(), &buckets, None)
            })
        })?;
        let Some(mean_ns) = self.mean_wait_ns else { return Ok(()) };
        let help = "Mean since the watch began, by Little's law; absent where arrivals are not \
                    known.";
        to.gauge("accept_delay_mean", SECONDS, help, seconds(mean_ns))
    }

    fn watcher(&self, to: &mut Families<'_>) -> fmt::Result {
        to.counter("watch_ticks", None, "Samples taken.", self.ticks)?;
        let help = "Samples taken late: above 2 % of all, waits are told too long.";
        to.counter("watch_late_ticks", None, help, self.late_ticks)?;
        to.counter("watch_cpu", SECONDS, "CPU time of the watcher.", seconds(self.cpu_ns))?;
        let help = "How often the listeners changed: restarts, and workers added.";
        to.counter("watch_listener_changes", None, help, self.restarts)
    }
}

const SECONDS: Option<&str> = Some("seconds");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;
    use crate::sys::processes::Owner;

    /// Tells of one second in which `waits` ended, at the listener with this inode.
    fn advance(metrics: &mut WatchMetrics, mode: &str, waits: &[u64], inodes: &[u32]) {
        let mut histogram = new_histogram();
        waits.iter().for_each(|ns| histogram.saturating_record(*ns));
        let listener = |inode: &u32| ListenerSecond {
            inode: *inode,
            depth: 3,
            depth_max: 9,
            limit: 128,
            drops: 2,
            accepts: 0,
            longest_wait_ns: (*inode == 7).then_some(1_500_000_000),
            waits: &histogram,
        };
        let listeners: Vec<_> = inodes.iter().map(listener).collect();
        let second = WatchSecond {
            at_ns: 0,
            length_ns: 1_000_000_000,
            mode,
            mode_reason: None,
            resolution_ns: 4_000_000,
            waits: &histogram,
            unseen: 0,
            mean_wait_ns: Some(2_500_000),
            accepts: 0,
            depth_time_ns: 6e9,
            depth_max: 9,
            drops: 2,
            ticks: 500,
            late_ticks: 4,
            cpu_ns: 20_000_000,
            restarts: 1,
            listeners: &listeners,
        };
        let owner = Owner { pid: 42, name: "a \"server\"\\".into() };
        metrics.advance(&second, &[(7, vec![owner])].into());
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }

    #[test]
    fn a_scrape_has_every_metric_and_its_labels() {
        let mut metrics = WatchMetrics::new("127.0.0.1:80".into());
        advance(&mut metrics, "fifo", &[2_000_000, 2_000_000, 70_000_000], &[7]);
        let text = metrics.text();
        for line in [
            "accept_queue_depth{addr=\"127.0.0.1:80\",listener=\"7\"} 3.0",
            "accept_queue_limit{addr=\"127.0.0.1:80\",listener=\"7\"} 128.0",
            "accept_queue_drops_total{addr=\"127.0.0.1:80\",listener=\"7\"} 2",
            "accepts_total{addr=\"127.0.0.1:80\",listener=\"7\"} 3",
            "accept_queue_longest_wait_seconds{addr=\"127.0.0.1:80\",listener=\"7\"} 1.5",
            "accept_queue_waiting_seconds_total{addr=\"127.0.0.1:80\"} 6.0",
            "accept_delay_seconds_count{addr=\"127.0.0.1:80\",listener=\"7\"} 3",
            "accept_delay_seconds_bucket{addr=\"127.0.0.1:80\",le=\"0.005\",listener=\"7\"} 2",
            "accept_delay_seconds_bucket{addr=\"127.0.0.1:80\",le=\"0.1\",listener=\"7\"} 3",
            "accept_delay_seconds_bucket{addr=\"127.0.0.1:80\",le=\"+Inf\",listener=\"7\"} 3",
            "accept_delay_mean_seconds{addr=\"127.0.0.1:80\"} 0.0025",
            "watch_late_ticks_total{addr=\"127.0.0.1:80\"} 4",
            "watch_listeners{addr=\"127.0.0.1:80\"} 1",
        ] {
            has(&text, line);
        }
        assert!(text.contains(r#"pid="42",process="a \"server\"\\""#), "{text}");
        assert!(!text.contains("le=\"0.002\""), "nothing is told below the resolution: {text}");
        assert!(text.contains("mode=\"fifo\"") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn counters_rise_when_the_mode_changes_and_a_group_counts_each_listener() {
        let mut metrics = WatchMetrics::new("a".into());
        let count = |metrics: &WatchMetrics, line: &str| has(&metrics.text(), line);
        advance(&mut metrics, "fifo", &[9_000_000; 5], &[7]);
        advance(&mut metrics, "depth", &[9_000_000; 2], &[7]);
        count(&metrics, "accepts_total{addr=\"a\",listener=\"7\"} 7");
        // From here on what each has shown so far counts, less what it had shown.
        advance(&mut metrics, "depth", &[9_000_000; 3], &[7, 8]);
        count(&metrics, "accepts_total{addr=\"a\",listener=\"7\"} 8");
        count(&metrics, "accepts_total{addr=\"a\",listener=\"8\"} 3");
        advance(&mut metrics, "trace", &[9_000_000; 4], &[7, 8]);
        count(&metrics, "accepts_total{addr=\"a\",listener=\"any\"} 4");
        count(&metrics, "accepts_total{addr=\"a\",listener=\"8\"} 3");
        advance(&mut metrics, "depth", &[], &[]);
        let text = metrics.text();
        has(&text, "watch_listeners{addr=\"a\"} 0");
        assert!(!text.contains("listener=\"7\""), "{text}");
    }

    #[test]
    fn what_is_longer_than_every_bound_is_in_the_last_bucket() {
        let mut buckets = Buckets::default();
        buckets.add(400_000_000_000, 2);
        buckets.add(1, 3);
        let told = buckets.from(1_000_000);
        assert_eq!((told[0], told[told.len() - 1]), ((0.001, 3), (f64::INFINITY, 2)));
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), buckets.total());
    }
}
