//! Kernel settings of this network namespace that shape what is measured.

use std::fs;

use crate::model::evidence::Settings;

/// Reads them all.
pub(super) fn read() -> Settings {
    let number = |path: &str| sysctl(path)?.trim().parse().ok();
    Settings {
        somaxconn: number("core/somaxconn"),
        tcp_max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
        tcp_syncookies: number("ipv4/tcp_syncookies"),
        tcp_syn_retries: number("ipv4/tcp_syn_retries"),
        tcp_syn_linear_timeouts: number("ipv4/tcp_syn_linear_timeouts"),
        tcp_abort_on_overflow: number("ipv4/tcp_abort_on_overflow"),
        tcp_tw_reuse: number("ipv4/tcp_tw_reuse"),
        ip_local_port_range: sysctl("ipv4/ip_local_port_range").and_then(|t| port_range(&t)),
    }
}

/// The text of a setting under `/proc/sys/net`.
pub(crate) fn sysctl(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/{path}")).ok()
}

/// Two ports separated by white space (ip(7), `ip_local_port_range`).
pub(crate) fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_whitespace().map(str::parse);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_ascending_numbers() {
        assert_eq!(port_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(port_range("2 1"), None);
        assert_eq!(port_range("1"), None);
        assert_eq!(port_range("1 70000"), None);
    }
}
