//! Memory before and after: the server's own and the kernel's.

use std::{fs, io};

use serde::Serialize;

use crate::sys::processes::{ServerProcess, kib_of};

/// What is in use at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryUsage {
    /// Resident memory of the server's process; `None` if that is not on this machine.
    pub(super) rss_kib: Option<u64>,
    /// `Slab` of /proc/meminfo, the whole machine.
    pub(super) slab_kib: u64,
    /// `SUnreclaim` of /proc/meminfo: the part of it that is in use for good.
    pub(super) unreclaimable_kib: u64,
    /// Memory of TCP buffers by /proc/net/sockstat, this network namespace.
    pub(super) tcp_kib: u64,
}

impl MemoryUsage {
    pub(super) fn take(server: Option<&ServerProcess>) -> io::Result<Self> {
        Ok(Self {
            rss_kib: server.map(ServerProcess::rss_kib).transpose()?,
            slab_kib: kib_of("/proc/meminfo", "Slab")?,
            unreclaimable_kib: kib_of("/proc/meminfo", "SUnreclaim")?,
            tcp_kib: tcp_pages(&fs::read_to_string("/proc/net/sockstat")?)
                .ok_or_else(|| io::Error::other("/proc/net/sockstat: no TCP mem"))?
                * (rustix::param::page_size() as u64 >> 10),
        })
    }
}

/// Bytes for each of `connections` between two readings in KiB.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn bytes_each(before: u64, after: u64, connections: u32) -> f64 {
    (after as f64 - before as f64) * 1024.0 / f64::from(connections.max(1))
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_memory_is_found() {
        let text = "sockets: used 9\nTCP: inuse 3 orphan 0 tw 1 alloc 5 mem 77\nUDP: inuse 1 mem 2";
        assert_eq!(tcp_pages(text), Some(77));
        assert_eq!(tcp_pages("UDP: inuse 1 mem 2"), None);
    }

    #[test]
    fn shares_are_in_bytes_and_may_shrink() {
        assert!((bytes_each(100, 200, 1024) - 100.0).abs() < f64::EPSILON);
        assert!(bytes_each(200, 100, 1) < 0.0);
    }
}
