//! Kernel settings of this network namespace that shape what is measured.

use uring_echo::sys::procfs::sysctl_number;

use crate::model::evidence::Settings;
use crate::sys::ports;

/// Reads the settings.
pub(super) fn read() -> Settings {
    let number = |name: &str| sysctl_number(&format!("net/{name}"));
    Settings {
        somaxconn: number("core/somaxconn"),
        tcp_max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
        tcp_syncookies: number("ipv4/tcp_syncookies"),
        tcp_syn_retries: number("ipv4/tcp_syn_retries"),
        tcp_syn_linear_timeouts: number("ipv4/tcp_syn_linear_timeouts"),
        tcp_abort_on_overflow: number("ipv4/tcp_abort_on_overflow"),
        tcp_tw_reuse: number("ipv4/tcp_tw_reuse"),
        ip_local_port_range: ports::local_range(),
    }
}
