//! What the kernel counted during a run.
//!
//! Counters belong to the network namespace, so they include its other traffic. A value that could
//! not be read is absent and listed in [`Evidence::unreadable`].

use serde::{Deserialize, Serialize};

/// Kernel evidence of one run, over its measured part: from the end of the warm-up until the last
/// attempt has its outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Time between the first and the last reading.
    pub elapsed_ns: u64,
    /// Instant of the first reading, from the begin of the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// TCP counters, difference between the two readings.
    pub kernel: Option<KernelCounters>,
    /// Samples of the accept queue.
    pub accept_queue: Option<QueueEvidence>,
    /// Connection tracking, where the kernel has it.
    pub conntrack: Option<Conntrack>,
    /// CPU time of the generator's process.
    pub generator_cpu: Option<CpuUse>,
    /// CPU time of the server, where its process is known.
    pub server_cpu: Option<CpuUse>,
    /// How long the server's threads were runnable and waited for a CPU, where its process is
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_run_delay: Option<RunDelay>,
    /// Samples at the instants at which the kernel retries a SYN, of connections that did.
    pub retransmission_schedule: Option<RetransmissionSchedule>,
    /// What the server's end of the connections showed that ended as `never_accepted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaccepted: Option<Unaccepted>,
    /// How often the CPU quota stopped the generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_throttled: Option<Throttling>,
    /// How often the CPU quota stopped the server, where its process is visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_throttled: Option<Throttling>,
    /// Samples of `--observe diag` that the kernel had no memory for (ENOBUFS, ENOMEM, EAGAIN); the
    /// brackets around those accepts are wider.
    #[serde(default)]
    pub samples_missed: u64,
    /// Kernel settings that influence the measurement.
    pub settings: Settings,
    /// Sources that could not be read, and why.
    pub unreadable: Vec<String>,
}

/// The accept queue over the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueEvidence {
    /// The most listening sockets in any sample.
    pub listeners: u32,
    /// Effective backlog of one listener.
    pub limit: u32,
    /// Longest queue of one listener in any sample, to be compared with `limit`.
    pub depth_max: u32,
    /// Connections waiting over all listeners: mean over time, each sample weighted with the time
    /// since the one before it.
    pub depth_mean: f64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that the period of the sampler called for; fewer were taken if it came too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_wanted: Option<u64>,
    /// Samples that failed.
    pub samples_failed: u64,
    /// SYNs and last ACKs that the kernel dropped at this server's listeners, of which a full queue
    /// is the usual cause (`INET_DIAG_SKMEMINFO`); absent in older results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u64>,
    /// The depth over time, ascending, at most [`QUEUE_POINTS_MAX`] points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<QueuePoint>,
}

/// The most points in [`QueueEvidence::series`]; with more, adjacent points are merged.
pub const QUEUE_POINTS_MAX: usize = 600;

/// The accept queue around one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePoint {
    /// The first sample of the point, from the begin of the load.
    pub at_ns: u64,
    /// Longest queue of one listener until the next point, to be compared with
    /// [`QueueEvidence::limit`].
    pub depth: u32,
}

/// Time that the threads of a process were runnable without a CPU (the second number of
/// `/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDelay {
    /// Over all threads.
    pub total_ns: u64,
    /// Of the thread that waited longest.
    pub longest_thread_ns: u64,
    /// Whether threads of the generator could run on a CPU of the server, and so be the cause.
    pub generator_shares_cpus: bool,
    /// How long generator threads kept a CPU, at most, while somebody waited for it: no more of the
    /// total is their doing. Absent in older results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by_generator_ns: Option<u64>,
}

/// Samples at the instants of the kernel's retransmissions, of connections on which a segment was
/// sent again (`tcpi_total_retrans`): their duration is that of the retransmission timer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetransmissionSchedule {
    /// Samples of connect: the SYN was dropped.
    pub connect: u64,
    /// Samples of accept_delay: the client sent something again, the SYN or data behind a dropped
    /// ACK.
    pub accept_delay: u64,
    /// Samples of accept_delay for which only the server sent something again, its SYN-ACK: the
    /// last ACK was dropped, or not taken because the server wants data first
    /// (TCP_DEFER_ACCEPT, tcp(7)).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub handshake_repeated: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Seconds after the first SYN at which Linux repeats it (tcp_syn_linear_timeouts = 4, the default
/// since 6.5). Without linear time-outs they are 1, 3, 7: among these.
const RETRANSMITS_S: [u64; 7] = [1, 2, 3, 4, 5, 7, 11];

/// Whether a wait of this length ends where the kernel repeats a segment that then needs `path_ns`
/// to take effect. Timers fire late, by up to 1/40 of their time (7.12 s was measured for 7 s), and
/// the scheduler adds its part.
pub fn is_on_retransmission_schedule(ns: u64, path_ns: u64) -> bool {
    const BELOW_NS: u64 = 10_000_000;
    const ABOVE_MIN_NS: u64 = 60_000_000;
    RETRANSMITS_S.iter().map(|second| second * 1_000_000_000).any(|at_ns| {
        let above_ns = ABOVE_MIN_NS.max(at_ns / 40).saturating_add(path_ns);
        (at_ns - BELOW_NS..=at_ns + above_ns).contains(&ns)
    })
}

/// Connections that were established for the client and not accepted in time, by what the kernel
/// showed of the server's end when they were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaccepted {
    /// In the accept queue: the server did not call accept.
    pub queued: u64,
    /// In the handshake: the last ACK was dropped, or the server wants data first.
    pub handshake: u64,
    /// Nowhere, although the server listens in this network namespace: the kernel keeps nothing of
    /// a connection whose SYN cookie came back to a full queue.
    pub lost: u64,
    /// Not in this network namespace.
    pub elsewhere: u64,
}

impl Unaccepted {
    /// The sum of both.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            queued: self.queued.saturating_add(other.queued),
            handshake: self.handshake.saturating_add(other.handshake),
            lost: self.lost.saturating_add(other.lost),
            elsewhere: self.elsewhere.saturating_add(other.elsewhere),
        }
    }
}

impl RetransmissionSchedule {
    /// The sum of both.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            connect: self.connect.saturating_add(other.connect),
            accept_delay: self.accept_delay.saturating_add(other.accept_delay),
            handshake_repeated: self.handshake_repeated.saturating_add(other.handshake_repeated),
        }
    }
}

/// What the CPU quota of a control group did during the run (cgroups(7), `cpu.stat`); of several
/// nested groups, the one that was stopped most often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// Periods in which it had used up its quota (`nr_throttled`).
    pub periods: u64,
    /// How long it was stopped, over all CPUs.
    pub stopped_ns: u64,
}

/// The counters that explain slow and lost connections. Names as the kernel's, in snake case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// Accept queue full: a SYN or the last ACK of a handshake was dropped.
    pub listen_overflows: u64,
    /// SYNs and ACKs dropped at a listener for any reason, the above included.
    pub listen_drops: u64,
    /// SYN queue full; a SYN cookie was sent.
    pub tcp_req_q_full_do_cookies: u64,
    /// SYN queue full; the SYN was dropped.
    pub tcp_req_q_full_drop: u64,
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// SYNs and SYN-ACKs retransmitted.
    pub tcp_syn_retrans: u64,
    /// Retransmission timers that fired.
    pub tcp_timeouts: u64,
    /// Connections dropped for lack of socket memory.
    pub tcp_abort_on_memory: u64,
    /// Segments retransmitted, SYNs included.
    pub retrans_segs: u64,
    /// Connections that were reset while established.
    pub estab_resets: u64,
}

impl KernelCounters {
    /// The differences from `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }

    /// Each counter with its counterpart in `other`.
    #[must_use]
    pub fn each(&self, other: &Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            listen_overflows: of(self.listen_overflows, other.listen_overflows),
            listen_drops: of(self.listen_drops, other.listen_drops),
            tcp_req_q_full_do_cookies: of(
                self.tcp_req_q_full_do_cookies,
                other.tcp_req_q_full_do_cookies,
            ),
            tcp_req_q_full_drop: of(self.tcp_req_q_full_drop, other.tcp_req_q_full_drop),
            syncookies_sent: of(self.syncookies_sent, other.syncookies_sent),
            tcp_syn_retrans: of(self.tcp_syn_retrans, other.tcp_syn_retrans),
            tcp_timeouts: of(self.tcp_timeouts, other.tcp_timeouts),
            tcp_abort_on_memory: of(self.tcp_abort_on_memory, other.tcp_abort_on_memory),
            retrans_segs: of(self.retrans_segs, other.retrans_segs),
            estab_resets: of(self.estab_resets, other.estab_resets),
        }
    }
}

/// Connection tracking over the run. If all counts are 0, the namespace tracks no connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// Entries before the run.
    pub count_start: u64,
    /// The most entries in any sample.
    pub count_peak: u64,
    /// Entries after the run.
    pub count_end: u64,
    /// `nf_conntrack_max`.
    pub limit: u64,
    /// Packets dropped during the run because no entry could be created.
    pub drop: u64,
    /// Entries that could not be inserted during the run.
    pub insert_failed: u64,
    /// Entries evicted during the run to make room.
    pub early_drop: u64,
}

impl Conntrack {
    /// Whether connections of this network namespace are tracked.
    pub fn active(&self) -> bool {
        self.count_peak > 0
    }

    /// Packets and entries that were lost in any way.
    pub fn lost(&self) -> u64 {
        self.drop.saturating_add(self.insert_failed).saturating_add(self.early_drop)
    }
}

/// CPU time of one process over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Time on a CPU, over all threads.
    pub cpu_ns: u64,
    /// The same as a number of fully used cores.
    pub cores: f64,
    /// CPU time of the busiest thread in cores, at most 1.
    pub busiest_thread_cores: f64,
    /// Threads in any sample.
    pub threads: u32,
}

/// Settings under `/proc/sys/net`; absent where they cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Upper bound of every listen backlog.
    pub somaxconn: Option<u64>,
    /// Bound of the SYN queue if SYN cookies are disabled.
    pub tcp_max_syn_backlog: Option<u64>,
    /// 1: SYN cookies are sent when the SYN queue is full.
    pub tcp_syncookies: Option<u64>,
    /// How often a SYN is retransmitted.
    pub tcp_syn_retries: Option<u64>,
    /// Retransmissions of a SYN at equal intervals before the intervals double (Linux 6.5).
    pub tcp_syn_linear_timeouts: Option<u64>,
    /// 1: with a full accept queue the kernel resets instead of dropping the last ACK.
    pub tcp_abort_on_overflow: Option<u64>,
    /// 2: on loopback a port in TIME_WAIT may be reused after one second.
    pub tcp_tw_reuse: Option<u64>,
    /// First and last local port.
    pub ip_local_port_range: Option<(u16, u16)>,
}
