//! TCP counters of `/proc/net/netstat` and `/proc/net/snmp` (Linux: `net/ipv4/proc.c`).

use serde::{Deserialize, Serialize};

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
    /// Reads the two tables; `None` when one of them is not what the kernel writes. A counter that
    /// this kernel does not have is zero.
    pub fn parse(netstat: &str, snmp: &str) -> Option<Self> {
        let ext = Table::parse(netstat, "TcpExt:")?;
        let tcp = Table::parse(snmp, "Tcp:")?;
        Some(Self {
            listen_overflows: ext.value("ListenOverflows"),
            listen_drops: ext.value("ListenDrops"),
            tcp_req_q_full_do_cookies: ext.value("TCPReqQFullDoCookies"),
            tcp_req_q_full_drop: ext.value("TCPReqQFullDrop"),
            syncookies_sent: ext.value("SyncookiesSent"),
            tcp_syn_retrans: ext.value("TCPSynRetrans"),
            tcp_timeouts: ext.value("TCPTimeouts"),
            tcp_abort_on_memory: ext.value("TCPAbortOnMemory"),
            retrans_segs: tcp.value("RetransSegs"),
            estab_resets: tcp.value("EstabResets"),
        })
    }

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

/// A line of names and a line of values, both beginning with the same word.
struct Table<'a> {
    names: &'a str,
    values: &'a str,
}

impl<'a> Table<'a> {
    fn parse(text: &'a str, head: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(head));
        Some(Self { names: lines.next()?, values: lines.next()? })
    }

    fn value(&self, name: &str) -> u64 {
        let column = self.names.split_whitespace().position(|n| n == name);
        let text = column.and_then(|at| self.values.split_whitespace().nth(at));
        text.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "\
TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory \
TCPReqQFullDoCookies TCPReqQFullDrop TCPSynRetrans TCPFuture
TcpExt: 17 0 197 198 12 0 20 3 200 99
IpExt: InNoRoutes InTruncatedPkts
IpExt: 4 0
";
    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens EstabResets RetransSegs
Tcp: 1 200 120000 -1 84 5 212
";

    #[test]
    fn values_are_found_by_name() {
        let counters = KernelCounters::parse(NETSTAT, SNMP).unwrap();
        assert_eq!(counters.listen_overflows, 197);
        assert_eq!(counters.listen_drops, 198);
        assert_eq!(counters.syncookies_sent, 17);
        assert_eq!(counters.tcp_syn_retrans, 200);
        assert_eq!((counters.estab_resets, counters.retrans_segs), (5, 212));
    }

    #[test]
    fn differences_do_not_wrap() {
        let later = KernelCounters::parse(NETSTAT, SNMP).unwrap();
        let earlier = KernelCounters { listen_overflows: 190, listen_drops: 999, ..later };
        assert_eq!(later.since(&earlier).listen_overflows, 7);
        assert_eq!(later.since(&earlier).listen_drops, 0);
    }

    #[test]
    fn other_text_is_refused_and_missing_counters_are_zero() {
        assert_eq!(KernelCounters::parse("", SNMP), None);
        assert_eq!(KernelCounters::parse(NETSTAT, "Tcp: A\n"), None);
        let old = KernelCounters::parse("TcpExt: A\nTcpExt: 1\n", "Tcp: B\nTcp: 2\n").unwrap();
        assert_eq!(old, KernelCounters::default());
    }

    #[test]
    fn this_kernel_is_understood() {
        let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap();
        let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
        assert!(KernelCounters::parse(&netstat, &snmp).is_some());
    }
}
