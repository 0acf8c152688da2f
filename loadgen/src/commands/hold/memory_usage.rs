//! Memory in use: the server's own and the kernel's.

use std::{fs, io};

use uring_echo::sys::procfs::kib;

use crate::model::hold::MemoryUsage;
use crate::sys::processes::ServerProcess;

/// Reads what is in use now.
pub(super) fn take(server: Option<&ServerProcess>) -> io::Result<MemoryUsage> {
    let sockstat = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = |name| {
        let missing = || io::Error::other(format!("/proc/net/sockstat: no TCP {name}"));
        tcp_field(&sockstat, name).ok_or_else(missing)
    };
    Ok(MemoryUsage {
        rss_kib: server.map(ServerProcess::rss_kib).transpose()?,
        slab_kib: kib("/proc/meminfo", "Slab")?,
        unreclaimable_kib: kib("/proc/meminfo", "SUnreclaim")?,
        tcp_kib: tcp("mem")? * (rustix::param::page_size() as u64 >> 10),
        tcp_sockets: tcp("inuse")?,
    })
}

fn tcp_field(sockstat: &str, name: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut fields = line.split_whitespace();
    fields.find(|field| *field == name)?;
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_fields_are_found_among_the_fields() {
        let text =
            "sockets: used 5\nTCP: inuse 1 orphan 0 tw 2 alloc 3 mem 17\nUDP: inuse 0 mem 9\n";
        assert_eq!((tcp_field(text, "mem"), tcp_field(text, "inuse")), (Some(17), Some(1)));
        assert_eq!(tcp_field("UDP: inuse 0 mem 9\n", "mem"), None);
    }
}
