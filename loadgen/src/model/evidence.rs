//! What the kernel counted while a run went on.
//!
//! Counters belong to the network namespace, so other traffic in it counts too. What could not be
//! read is absent and listed in [`Evidence::unreadable`].

use serde::{Deserialize, Serialize};

/// Kernel evidence of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Time between the first and the last reading.
    pub elapsed_ns: u64,
    /// TCP counters, difference over the run.
    pub kernel: Option<KernelCounters>,
    /// The accept queue, sampled.
    pub accept_queue: Option<QueueEvidence>,
    /// Connection tracking, where the kernel has it.
    pub conntrack: Option<Conntrack>,
    /// CPU time of this process.
    pub generator_cpu: Option<CpuUse>,
    /// CPU time of the server, where its process is known.
    pub server_cpu: Option<CpuUse>,
    /// Samples at the instants at which the kernel retries a SYN.
    pub retransmission_schedule: Option<RetransmissionSchedule>,
    /// Samples of `--observe diag` that the kernel had no memory for (ENOBUFS, ENOMEM, EAGAIN): the
    /// brackets around those accepts are wider.
    #[serde(default)]
    pub samples_missed: u64,
    /// Kernel settings that shape what was measured.
    pub settings: Settings,
    /// What could not be read, and why.
    pub unreadable: Vec<String>,
}

/// The accept queue over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueEvidence {
    /// Listening sockets, at most.
    pub listeners: u32,
    /// Effective backlog of one listener.
    pub limit: u32,
    /// Longest queue of one listener in any sample: compares with `limit`.
    pub depth_max: u32,
    /// Connections waiting over all listeners, mean of the samples.
    pub depth_mean: f64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that failed.
    pub samples_failed: u64,
}

/// Samples at the instants of the kernel's own retransmissions: the SYN, or the last ACK of the
/// handshake, was dropped, and the wait is that of a timer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetransmissionSchedule {
    /// Samples of connect: the SYN was dropped.
    pub connect: u64,
    /// Samples of accept_delay: the SYN or the last ACK was dropped.
    pub accept_delay: u64,
}

/// The counters that explain slow and lost connections. Names as the kernel's, in snake case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// Accept queue full: a SYN or the last ACK of a handshake was dropped.
    pub listen_overflows: u64,
    /// SYNs and ACKs dropped at a listener for any reason, the above included.
    pub listen_drops: u64,
    /// SYN queue full, cookies were sent instead.
    pub tcp_req_q_full_do_cookies: u64,
    /// SYN queue full, the SYN was dropped.
    pub tcp_req_q_full_drop: u64,
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// SYNs and SYN-ACKs sent again.
    pub tcp_syn_retrans: u64,
    /// Retransmission timers that fired.
    pub tcp_timeouts: u64,
    /// Connections dropped for lack of socket memory.
    pub tcp_abort_on_memory: u64,
    /// Segments sent again, SYNs included.
    pub retrans_segs: u64,
    /// Connections that were reset while established.
    pub estab_resets: u64,
}

impl KernelCounters {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let diff = u64::saturating_sub;
        Self {
            listen_overflows: diff(self.listen_overflows, earlier.listen_overflows),
            listen_drops: diff(self.listen_drops, earlier.listen_drops),
            tcp_req_q_full_do_cookies: diff(
                self.tcp_req_q_full_do_cookies,
                earlier.tcp_req_q_full_do_cookies,
            ),
            tcp_req_q_full_drop: diff(self.tcp_req_q_full_drop, earlier.tcp_req_q_full_drop),
            syncookies_sent: diff(self.syncookies_sent, earlier.syncookies_sent),
            tcp_syn_retrans: diff(self.tcp_syn_retrans, earlier.tcp_syn_retrans),
            tcp_timeouts: diff(self.tcp_timeouts, earlier.tcp_timeouts),
            tcp_abort_on_memory: diff(self.tcp_abort_on_memory, earlier.tcp_abort_on_memory),
            retrans_segs: diff(self.retrans_segs, earlier.retrans_segs),
            estab_resets: diff(self.estab_resets, earlier.estab_resets),
        }
    }
}

/// Connection tracking over the run. A count of 0 throughout means that nothing is tracked here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// Entries before the run.
    pub count_start: u64,
    /// Most entries seen.
    pub count_peak: u64,
    /// Entries after the run.
    pub count_end: u64,
    /// `nf_conntrack_max`.
    pub limit: u64,
    /// Packets dropped over the run because no entry could be made.
    pub drop: u64,
    /// Entries that could not be inserted over the run.
    pub insert_failed: u64,
    /// Entries thrown out over the run to make room.
    pub early_drop: u64,
}

impl Conntrack {
    /// Whether connections of this network namespace are tracked.
    pub fn active(&self) -> bool {
        self.count_peak > 0
    }
}

/// CPU time of one process over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Time on a CPU, over all threads.
    pub cpu_ns: u64,
    /// The same as a number of fully used cores.
    pub cores: f64,
    /// The busiest thread, in cores: at most 1.
    pub busiest_thread_cores: f64,
    /// Threads seen.
    pub threads: u32,
}

/// Settings under `/proc/sys/net`; absent where they cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Upper bound of every listen backlog.
    pub somaxconn: Option<u64>,
    /// Bound of the SYN queue where cookies are off.
    pub tcp_max_syn_backlog: Option<u64>,
    /// 1: cookies when the SYN queue is full.
    pub tcp_syncookies: Option<u64>,
    /// How often a SYN is repeated.
    pub tcp_syn_retries: Option<u64>,
    /// Repeats at equal distances before they double (Linux 6.5).
    pub tcp_syn_linear_timeouts: Option<u64>,
    /// 1: a full accept queue resets instead of dropping the last ACK.
    pub tcp_abort_on_overflow: Option<u64>,
    /// 2: on loopback a port in TIME_WAIT may be used again after a second.
    pub tcp_tw_reuse: Option<u64>,
    /// First and last local port.
    pub ip_local_port_range: Option<(u16, u16)>,
}
