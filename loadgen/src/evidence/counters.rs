//! TCP counters of `/proc/net/netstat` and `/proc/net/snmp` (Linux: `net/ipv4/proc.c`).

use crate::model::evidence::KernelCounters;

/// Parses the two tables; `None` when one of them has another format. A counter that this kernel
/// does not have is zero.
pub(super) fn parse(netstat: &str, snmp: &str) -> Option<KernelCounters> {
    let ext = Table::parse(netstat, "TcpExt:")?;
    let tcp = Table::parse(snmp, "Tcp:")?;
    Some(KernelCounters {
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

/// A line of names and a line of values, both beginning with the same prefix.
struct Table<'a> {
    names: &'a str,
    values: &'a str,
}

impl<'a> Table<'a> {
    fn parse(text: &'a str, prefix: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
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
    fn counters_are_read_by_name() {
        let counters = parse(NETSTAT, SNMP).unwrap();
        assert_eq!(counters.listen_overflows, 197);
        assert_eq!(counters.listen_drops, 198);
        assert_eq!(counters.syncookies_sent, 17);
        assert_eq!(counters.tcp_syn_retrans, 200);
        assert_eq!((counters.estab_resets, counters.retrans_segs), (5, 212));
    }

    #[test]
    fn a_counter_that_decreased_counts_as_unchanged() {
        let later = parse(NETSTAT, SNMP).unwrap();
        let earlier = KernelCounters { listen_overflows: 190, listen_drops: 999, ..later };
        assert_eq!(later.since(&earlier).listen_overflows, 7);
        assert_eq!(later.since(&earlier).listen_drops, 0);
    }

    #[test]
    fn another_format_is_refused_and_missing_counters_are_zero() {
        assert_eq!(parse("", SNMP), None);
        assert_eq!(parse(NETSTAT, "Tcp: A\n"), None);
        let old = parse("TcpExt: A\nTcpExt: 1\n", "Tcp: B\nTcp: 2\n").unwrap();
        assert_eq!(old, KernelCounters::default());
    }

    #[test]
    fn the_tables_of_this_kernel_are_parsed() {
        let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap();
        let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
        assert!(parse(&netstat, &snmp).is_some());
    }
}
