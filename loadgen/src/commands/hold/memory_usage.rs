//! Memory in use: the server's own and the kernel's.

use std::{fs, io};

use uring_echo::sys::procfs::kib;

use crate::model::hold::MemoryUsage;
use crate::sys::processes::ServerProcess;

/// Reads what is in use now.
pub(super) fn take(server: Option<&ServerProcess>) -> io::Result<MemoryUsage> {
    Ok(MemoryUsage {
        rss_kib: server.map(ServerProcess::rss_kib).transpose()?,
        slab_kib: kib("/proc/meminfo", "Slab")?,
        unreclaimable_kib: kib("/proc/meminfo", "SUnreclaim")?,
        tcp_kib: tcp_pages(&fs::read_to_string("/proc/net/sockstat")?)
            .ok_or_else(|| io::Error::other("/proc/net/sockstat: no TCP mem"))?
            * (rustix::param::page_size() as u64 >> 10),
    })
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut fields = line.split_whitespace();
    fields.find(|field| *field == "mem")?;
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_memory_is_found_among_the_fields() {
        let text =
            "sockets: used 5\nTCP: inuse 1 orphan 0 tw 2 alloc 3 mem 17\nUDP: inuse 0 mem 9\n";
        assert_eq!(tcp_pages(text), Some(17));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 9\n"), None);
    }
}
