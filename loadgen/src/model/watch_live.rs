//! A watch while it goes on: what is shown and exported once a second.

use hdrhistogram::Histogram;

/// A watch at the end of one of its seconds.
#[derive(Debug, Clone, Copy)]
pub struct WatchSecond<'a> {
    /// Its end, from the begin of the watch.
    pub at_ns: u64,
    /// Its length.
    pub length_ns: u64,
    /// How waits are told now.
    pub mode: &'a str,
    /// Why not by a better mode; absent where there is none.
    pub mode_reason: Option<&'a str>,
    /// Waits shorter than this cannot be told from each other.
    pub resolution_ns: u64,
    /// The waits that ended in this second, as `mode` tells them; those below the resolution at
    /// half of it.
    pub waits: &'a Histogram<u64>,
    /// Connections of this second that came and went between two samples, where it is known that
    /// they were of this address.
    pub unseen: u64,
    /// Mean wait so far, where the arrivals are known.
    pub mean_wait_ns: Option<u64>,
    /// Accepts so far.
    pub accepts: u64,
    /// Length of the queues over time so far: connections × nanoseconds.
    pub depth_time_ns: f64,
    /// Longest queue of one listener so far.
    pub depth_max: u32,
    /// Dropped so far.
    pub drops: u64,
    /// Samples so far, and those of them that came late.
    pub ticks: u64,
    /// See `ticks`.
    pub late_ticks: u64,
    /// CPU time of the watcher so far.
    pub cpu_ns: u64,
    /// How often the listeners changed so far.
    pub restarts: u64,
    /// The listeners of the address; empty while nobody listens.
    pub listeners: &'a [ListenerSecond<'a>],
}

/// One of the listeners.
#[derive(Debug, Clone, Copy)]
pub struct ListenerSecond<'a> {
    /// Its socket.
    pub inode: u32,
    /// Connections waiting now.
    pub depth: u32,
    /// Longest queue in any sample so far.
    pub depth_max: u32,
    /// Effective backlog.
    pub limit: u32,
    /// Dropped so far.
    pub drops: u64,
    /// Accepts that its depth showed so far.
    pub accepts: u64,
    /// How long the oldest has waited.
    pub longest_wait_ns: Option<u64>,
    /// The waits so far that its depth showed.
    pub waits: &'a Histogram<u64>,
}

impl WatchSecond<'_> {
    /// Connections waiting now.
    pub fn waiting(&self) -> u32 {
        self.listeners.iter().map(|listener| listener.depth).sum()
    }

    /// Smallest effective backlog.
    pub fn limit(&self) -> u32 {
        self.listeners.iter().map(|listener| listener.limit).min().unwrap_or(0)
    }

    /// How long the oldest of all has waited.
    pub fn longest_wait_ns(&self) -> Option<u64> {
        self.listeners.iter().filter_map(|listener| listener.longest_wait_ns).max()
    }

    /// Accepts of this second, a second.
    pub fn accept_rate(&self) -> f64 {
        (self.waits.len() + self.unseen) as f64 * 1e9 / self.length_ns.max(1) as f64
    }
}
