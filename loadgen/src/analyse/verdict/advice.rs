//! What was noticed in a run and what to do about it, in words.

use std::fmt;

use crate::render::units;

/// What was noticed, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advice {
    /// ListenOverflows grew.
    QueueOverflowed {
        /// By how much.
        count: u64,
        /// Effective backlog, if it was seen.
        limit: Option<u32>,
        /// `net.core.somaxconn`.
        somaxconn: Option<u64>,
    },
    /// Samples at the instants of SYN retries.
    OnRetransmitSchedule {
        /// How many.
        count: u64,
    },
    /// The SYN queue was full.
    SynQueueFull {
        /// Cookies sent instead.
        cookies: u64,
        /// SYNs dropped.
        dropped: u64,
    },
    /// Conntrack lost packets.
    ConntrackLost {
        /// How many.
        count: u64,
    },
    /// Conntrack came near its limit.
    ConntrackNearlyFull {
        /// Most entries seen.
        peak: u64,
        /// Entries that fit.
        limit: u64,
    },
    /// Waits that had not ended.
    Unfinished {
        /// How many.
        count: u64,
    },
    /// Established, and nobody took them up.
    NeverAccepted {
        /// How many.
        count: u64,
    },
    /// Nobody listens there.
    Refused {
        /// How many.
        count: u64,
    },
    /// Local ports ran out.
    PortsExhausted {
        /// How many attempts.
        count: u64,
    },
    /// Descriptors, or memory for sockets, ran out.
    DescriptorsExhausted {
        /// How many attempts.
        count: u64,
    },
    /// The server sends no stamp, or not one that can be read.
    NoStamp {
        /// On how many connections.
        count: u64,
    },
    /// The kernel had no memory to answer looks at waiting connections.
    SamplesMissed {
        /// How many.
        count: u64,
    },
    /// Accepts were not seen at all.
    NotObserved,
}

impl Advice {
    /// Short name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::QueueOverflowed { .. } => "accept_queue_overflowed",
            Self::OnRetransmitSchedule { .. } => "syn_retry_ladder",
            Self::SynQueueFull { .. } => "syn_queue_full",
            Self::ConntrackLost { .. } => "conntrack_lost",
            Self::ConntrackNearlyFull { .. } => "conntrack_nearly_full",
            Self::Unfinished { .. } => "unfinished",
            Self::NeverAccepted { .. } => "never_accepted",
            Self::Refused { .. } => "refused",
            Self::PortsExhausted { .. } => "local_port_exhausted",
            Self::DescriptorsExhausted { .. } => "fd_limit",
            Self::NoStamp { .. } => "stamp_invalid",
            Self::SamplesMissed { .. } => "looks_missed",
            Self::NotObserved => "accept_not_observed",
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noticed, meaning) = match *self {
            Self::QueueOverflowed { count, limit, somaxconn } => {
                (overflow(count, limit, somaxconn), "raise the server's backlog, or accept faster")
            }
            Self::OnRetransmitSchedule { count } => (
                format!("{} at 1, 2, 3, 4, 5, 7 or 11 s", sit(count, "sample")),
                "there the kernel repeats a dropped SYN or handshake; that wait is its retry \
                 timer, not the server's work",
            ),
            Self::SynQueueFull { cookies, dropped } => (
                syn_queue(cookies, dropped),
                "raise the server's backlog; with cookies a connection may look established and \
                 never be accepted",
            ),
            Self::ConntrackLost { count } => (
                format!("connection tracking dropped {}", units::plural(count, "packet")),
                "raise net.netfilter.nf_conntrack_max or run in a network namespace of its own",
            ),
            Self::ConntrackNearlyFull { peak, limit } => (
                table(peak, limit),
                "when it is full the kernel drops SYNs silently; lower the rate or raise \
                 net.netfilter.nf_conntrack_max",
            ),
            Self::Unfinished { count } => (
                format!("{} had not ended", units::plural(count, "wait")),
                "in accept_response they count as \"at least this long\"",
            ),
            Self::NeverAccepted { count } => (
                format!("{} established but not accepted in time", was(count, "connection")),
                "the server stopped accepting, or the kernel lost them (SYN cookies)",
            ),
            Self::Refused { count } => (
                format!("{} refused", was(count, "connection")),
                "nothing listens at the address, or the server closed its listener",
            ),
            Self::PortsExhausted { count } => (
                format!("{} found no free local port", units::plural(count, "attempt")),
                "add addresses with --source (127.1.0.0/24 works on loopback without set-up) or \
                 use --close rst",
            ),
            Self::DescriptorsExhausted { count } => (
                format!("{} found no descriptor or memory", units::plural(count, "attempt")),
                "lower --max-in-flight, or raise ulimit -n or what the kernel may use for sockets \
                 (net.ipv4.tcp_mem, the memory limit of a container)",
            ),
            Self::NoStamp { count } => (
                format!("{} did not begin with a stamp", units::plural(count, "connection")),
                "start uring-echo serve with --stamp, or use --observe diag",
            ),
            Self::SamplesMissed { count } => (
                format!("the kernel had no memory for {}", units::plural(count, "look")),
                "the brackets around those accepts are wider, as diag_resolution shows; free some \
                 memory, or use --observe stamp with uring-echo",
            ),
            Self::NotObserved => (
                "no accept was observed, so there is no accept_delay".into(),
                "use --observe diag for a server in this network namespace, or stamp for \
                 uring-echo serve --stamp",
            ),
        };
        write!(f, "{noticed}: {meaning}")
    }
}

fn overflow(count: u64, limit: Option<u32>, somaxconn: Option<u64>) -> String {
    let known = |n: Option<u64>| n.map_or_else(|| "unknown".into(), units::count);
    format!(
        "the accept queue overflowed {} (effective backlog {}, somaxconn {})",
        units::plural(count, "time"),
        known(limit.map(u64::from)),
        known(somaxconn)
    )
}

fn syn_queue(cookies: u64, dropped: u64) -> String {
    let (cookies, dropped) = (units::plural(cookies, "SYN cookie"), units::plural(dropped, "SYN"));
    format!("the SYN queue was full ({cookies} sent, {dropped} dropped)")
}

fn table(peak: u64, limit: u64) -> String {
    let (peak, limit) = (units::count(peak), units::count(limit));
    format!("connection tracking held {peak} of {limit} entries")
}

fn was(n: u64, thing: &str) -> String {
    format!("{} {}", units::plural(n, thing), if n == 1 { "was" } else { "were" })
}

fn sit(n: u64, thing: &str) -> String {
    format!("{} {}", units::plural(n, thing), if n == 1 { "sits" } else { "sit" })
}
