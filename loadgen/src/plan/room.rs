//! What this machine has left for many connections.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity};
use uring_echo::sys::cgroup::Groups;
use uring_echo::sys::procfs::{kib, own_status, sysctl, sysctl_number};
use uring_echo::sys::{conntrack, descriptors};

use super::holding::{MemoryBound, MemoryLeft, Room};
use crate::sys::ports;

impl Room {
    /// Reads it.
    ///
    /// # Errors
    /// What reading the CPU affinity, `/proc/meminfo` or the port range failed with.
    pub fn read() -> io::Result<Self> {
        let range = ports::local_range().ok_or_else(|| {
            io::Error::other("/proc/sys/net/ipv4/ip_local_port_range cannot be read")
        })?;
        let nofile = descriptors::limit().hard.unwrap_or(u64::MAX);
        let cpus = sched_getaffinity(None)?;
        let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| cpus.is_set(cpu)).count();
        let tracked = conntrack::usage().filter(|usage| usage.count > 0);
        Ok(Self {
            nofile: u32::try_from(nofile).unwrap_or(u32::MAX),
            nofile_most: sysctl_number("fs/nr_open"),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX).max(1),
            ports: ports::usable(range),
            memory: memory()?,
            files: files_left(),
            // A namespace without entries does not track connections, even where there is a table.
            conntrack: tracked.map(|usage| usage.limit.saturating_sub(usage.count)),
        })
    }

    /// Bytes of memory that may still be used.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.memory.iter().map(|memory| memory.left).min().unwrap_or(0)
    }
}

fn memory() -> io::Result<Vec<MemoryLeft>> {
    let available = kib("/proc/meminfo", "MemAvailable")? << 10;
    let machine = MemoryLeft { bound: MemoryBound::Machine, left: available };
    let groups = Groups::read().memory_left().into_iter().map(|limit| MemoryLeft {
        bound: MemoryBound::Group(limit.file.display().to_string()),
        left: limit.value,
    });
    Ok([machine].into_iter().chain(groups).collect())
}

/// How many files may still be opened on this machine; whoever has `CAP_SYS_ADMIN` may open more
/// than `fs.file-max` says.
fn files_left() -> Option<u64> {
    if has_capability(CAP_SYS_ADMIN) {
        return None;
    }
    let most: u64 = sysctl_number("fs/file-max")?;
    let open = sysctl("fs/file-nr")?.split_whitespace().next()?.parse().ok()?;
    Some(most.saturating_sub(open))
}

fn has_capability(number: u32) -> bool {
    let effective = own_status("CapEff").and_then(|bits| u64::from_str_radix(&bits, 16).ok());
    effective.is_some_and(|bits| bits >> number & 1 == 1)
}

/// capabilities(7).
const CAP_SYS_ADMIN: u32 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_of_everything() {
        let room = Room::read().expect("a Linux");
        assert!(room.nofile > 0 && room.cpus > 0 && room.ports > 0, "{room:?}");
        assert_eq!(room.memory[0].bound, MemoryBound::Machine);
        assert!(room.memory[0].left > 1 << 20, "{room:?}");
    }
}
