//! What is shown of a watch.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::parts::{push, whole};
use crate::model::histogram::new_histogram;
use crate::model::live::Percentiles;
use crate::model::watch_live::{ListenerSecond, WatchSecond};
use crate::sys::processes::Owners;

/// A watch so far, and its last second.
#[derive(Debug)]
pub(in crate::render) struct WatchState {
    pub(super) target: String,
    pub(super) elapsed: Duration,
    pub(super) mode: String,
    pub(super) mode_reason: Option<String>,
    pub(super) resolution_ns: u64,
    pub(super) last_second: Percentiles,
    pub(super) so_far: Percentiles,
    pub(super) mean_wait_ns: Option<u64>,
    pub(super) rate: f64,
    pub(super) accepts: u64,
    pub(super) waiting: u32,
    pub(super) depth_max: u32,
    pub(super) limit: u32,
    pub(super) longest_wait_ns: Option<u64>,
    pub(super) drops: u64,
    /// Of them, in the last second.
    pub(super) dropped: u64,
    pub(super) restarts: u64,
    /// Share of all samples.
    pub(super) late: f64,
    /// Share of a core in the last second.
    pub(super) cores: f64,
    /// The one that has waited longest first.
    pub(super) listeners: Vec<ListenerState>,
    pub(super) p99s_ns: VecDeque<u64>,
    pub(super) depths: VecDeque<u64>,
    pub(super) rates: VecDeque<u64>,
    waits: Histogram<u64>,
    cpu_ns: u64,
}

/// One listener.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) owner: String,
    pub(super) depth: u32,
    pub(super) depth_max: u32,
    pub(super) limit: u32,
    pub(super) drops: u64,
    pub(super) longest_wait_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
}

impl WatchState {
    pub(in crate::render) fn new(target: String) -> Self {
        Self {
            target,
            elapsed: Duration::ZERO,
            mode: String::new(),
            mode_reason: None,
            resolution_ns: 0,
            last_second: Percentiles::default(),
            so_far: Percentiles::default(),
            mean_wait_ns: None,
            rate: 0.0,
            accepts: 0,
            waiting: 0,
            depth_max: 0,
            limit: 0,
            longest_wait_ns: None,
            drops: 0,
            dropped: 0,
            restarts: 0,
            late: 0.0,
            cores: 0.0,
            listeners: Vec::new(),
            p99s_ns: VecDeque::new(),
            depths: VecDeque::new(),
            rates: VecDeque::new(),
            waits: new_histogram(),
            cpu_ns: 0,
        }
    }

    /// The state one second later.
    pub(in crate::render) fn advance(&mut self, second: &WatchSecond<'_>, owners: &Owners) {
        self.elapsed = Duration::from_nanos(second.at_ns);
        second.mode.clone_into(&mut self.mode);
        self.mode_reason = second.mode_reason.map(str::to_owned);
        self.resolution_ns = second.resolution_ns;
        self.waits.add(second.waits).expect("both have the same bounds");
        self.waits.saturating_record_n(second.resolution_ns / 2, second.unseen);
        self.last_second = percentiles(second.waits);
        self.so_far = percentiles(&self.waits);
        self.mean_wait_ns = second.mean_wait_ns;
        (self.rate, self.accepts) = (second.accept_rate(), second.accepts);
        (self.waiting, self.limit) = (second.waiting(), second.limit());
        self.depth_max = second.depth_max;
        self.longest_wait_ns = second.longest_wait_ns();
        self.dropped = second.drops.saturating_sub(self.drops);
        self.drops = second.drops;
        self.restarts = second.restarts;
        self.late = second.late_ticks as f64 / second.ticks.max(1) as f64;
        let cpu_ns = second.cpu_ns.saturating_sub(self.cpu_ns);
        self.cores = cpu_ns as f64 / second.length_ns.max(1) as f64;
        self.cpu_ns = second.cpu_ns;
        let listeners = second.listeners.iter();
        self.listeners = listeners.map(|one| ListenerState::of(one, owners)).collect();
        self.listeners.sort_by_key(|one| std::cmp::Reverse((one.longest_wait_ns, one.depth)));
        push(&mut self.p99s_ns, self.last_second.p99_ns.unwrap_or(0));
        push(&mut self.depths, self.waiting.into());
        push(&mut self.rates, whole(self.rate));
    }
}

impl ListenerState {
    fn of(listener: &ListenerSecond<'_>, owners: &Owners) -> Self {
        let owner = owners.get(&listener.inode).and_then(|owners| owners.first());
        let named = owner.map(|owner| format!("{} ({})", owner.name, owner.pid));
        Self {
            owner: named.unwrap_or_else(|| format!("socket {}", listener.inode)),
            depth: listener.depth,
            depth_max: listener.depth_max,
            limit: listener.limit,
            drops: listener.drops,
            longest_wait_ns: listener.longest_wait_ns,
            p99_ns: percentiles(listener.waits).p99_ns,
        }
    }
}

fn percentiles(waits: &Histogram<u64>) -> Percentiles {
    if waits.is_empty() {
        return Percentiles::default();
    }
    Percentiles {
        p50_ns: Some(waits.value_at_quantile(0.5)),
        p90_ns: Some(waits.value_at_quantile(0.9)),
        p99_ns: Some(waits.value_at_quantile(0.99)),
        max_ns: Some(waits.max()),
    }
}
