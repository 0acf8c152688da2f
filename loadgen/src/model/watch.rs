//! What `loadgen watch` sees of a listener whose traffic it does not make.

use serde::{Deserialize, Serialize};

use super::verdict::Finding;

/// In place of a limit: `/proc/PID/net`, read where a namespace may not be entered, has none.
pub const LIMIT_UNKNOWN: u32 = u32::MAX;

/// More late samples than this bend the numbers.
pub const LATE_MAX: f64 = 0.02;
/// A queue this full is close to dropping.
pub const FULL: f64 = 0.8;

/// The part of a result that only `loadgen watch` has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// How waits were told: `trace`, `fifo`, `sampled` or `depth`.
    pub mode: String,
    /// Why it was not the better one; absent where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<String>,
    /// Why the kernel's tracepoint did not tell them; absent where it did, or was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_refused: Option<String>,
    /// Waits shorter than this cannot be told from each other; longer ones are known to within it.
    pub resolution_ns: u64,
    /// Mean time between two samples that was asked for.
    pub interval_ns: u64,
    /// How long it watched.
    pub watched_ns: u64,
    /// Accepts seen; in modes `depth` and `sampled` beside another busy listener at least so many.
    pub accepts: u64,
    /// Waits shorter than the resolution, which the histogram holds at half of it. In mode
    /// `sampled` there are none: the histogram begins at the resolution.
    pub below_resolution: u64,
    /// Mean wait by Little's law: the queue's length over time, divided by the arrivals. Absent
    /// where nothing arrived, or where the arrivals are not known.
    pub mean_wait_ns: Option<u64>,
    /// Bounds of the mean where the arrivals are known only to lie between two counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_wait_range_ns: Option<(u64, u64)>,
    /// Mode `sampled`: how many dumps of the queue met somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dumps_that_met: Option<u64>,
    /// Connections waiting at the end, over all listeners of the address.
    pub depth: u32,
    /// Longest queue of one listener in any sample, to be compared with `limit`.
    pub depth_max: u32,
    /// Smallest effective backlog of the listeners, or [`LIMIT_UNKNOWN`].
    pub limit: u32,
    /// `net.core.somaxconn` of the namespace.
    pub somaxconn: Option<u32>,
    /// SYNs and connections that the listeners dropped meanwhile, retransmitted SYNs included.
    pub drops: u64,
    /// How long the longest of those that still wait has waited.
    pub longest_wait_ns: Option<u64>,
    /// Samples taken.
    pub ticks: u64,
    /// Share of samples that were taken late by half an interval and more.
    pub late_ticks_share: f64,
    /// CPU time of the watcher as a share of one core.
    pub cpu_cores: f64,
    /// How often the listeners changed: restarted, or another one was added.
    pub restarts: u64,
    /// Time without any listener.
    pub absent_ns: u64,
    /// How often the watcher itself stood still, in a suspended machine for example; what happened
    /// meanwhile is in no number.
    #[serde(default)]
    pub pauses: u64,
    /// Share of the connections that ended at other ports, in the windows that looked.
    pub neighbours_share: Option<f64>,
    /// The listeners of the address: several are an `SO_REUSEPORT` group.
    pub members: Vec<WatchMember>,
}

/// One listener, from the waits that its own depth shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WatchMember {
    /// Its socket.
    pub inode: u32,
    /// The processes that hold it, where they may be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Connections waiting at the end.
    pub depth: u32,
    /// Longest queue in any sample.
    pub depth_max: u32,
    /// Effective backlog.
    pub limit: u32,
    /// Dropped while it was watched.
    pub drops: u64,
    /// Waits that ended and lasted for a sample at least.
    pub waits: u64,
    /// 99th percentile of these.
    pub p99_ns: Option<u64>,
    /// How long the longest of those that still wait has waited.
    pub longest_wait_ns: Option<u64>,
}

/// A listener of `loadgen watch --list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedListener {
    /// The address that it is bound to.
    pub addr: String,
    /// Its socket.
    pub inode: u32,
    /// The user that it belongs to.
    pub uid: u32,
    /// The processes that hold it; empty where they may not be looked at.
    pub owners: Vec<ListedOwner>,
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// Effective backlog: min(backlog, somaxconn).
    pub limit: u32,
    /// Share of the queue in use; Linux queues `limit` + 1.
    pub fullness: f64,
    /// Dropped since it listens, retransmitted SYNs included.
    pub drops: u32,
    /// Listeners with the same address: several are an `SO_REUSEPORT` group.
    pub listeners: usize,
    /// Which of the two the limit is: `backlog` or `somaxconn`.
    pub limited_by: Option<LimitedBy>,
    /// What is noticed, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Finding>,
}

/// What an effective backlog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// What the server passed to `listen`.
    Backlog,
    /// `net.core.somaxconn`, which is not more than that.
    Somaxconn,
}

/// A process that holds a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOwner {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl ListedListener {
    /// Share of the queue in use.
    pub fn fullness(depth: u32, limit: u32) -> f64 {
        f64::from(depth) / (f64::from(limit) + 1.0)
    }
}

impl LimitedBy {
    /// The smaller of the two binds.
    pub fn of(limit: u32, somaxconn: u32) -> Self {
        if limit >= somaxconn { Self::Somaxconn } else { Self::Backlog }
    }
}
