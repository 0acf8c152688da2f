//! The result of holding many idle connections.

use serde::{Deserialize, Serialize};

/// The part of a result that only `loadgen hold` has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Connections requested.
    pub wanted: u32,
    /// Of those, established.
    pub opened: u32,
    /// Of those, whose message was echoed.
    pub echoed: u32,
    /// Of those, closed or with bytes to read at the end.
    pub lost: u32,
    /// Processes that held them.
    pub processes: usize,
    /// Rings that held them, in whose tables the sockets are; 0 where each has a descriptor.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rings: usize,
    /// Threads that drove the rings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub threads: usize,
    /// The network namespace that was made for clients and server, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_network: Option<PrivateNetwork>,
    /// Seconds until all were open.
    pub opening_s: f64,
    /// Seconds for which they were held.
    pub held_s: f64,
    /// CPU time from the first connection until all were open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening_cpu: Option<OpeningCpu>,
    /// Seconds until the clients had reset all, if they ended them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_s: Option<f64>,
    /// Seconds until the embedded server had stopped while all were open, if it ended them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_stop_s: Option<f64>,
    /// The first failure of a connection.
    pub first_error: Option<String>,
    /// Why not all were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// Connections with the server's port in the kernel's socket table, once all were open.
    pub seen_by_kernel: Option<usize>,
    /// The server's process, if it is visible.
    pub server_pid: Option<u32>,
    /// Memory before the first connection, after the pools were warmed up.
    pub before: MemoryUsage,
    /// Memory with all connections open.
    pub after: MemoryUsage,
    /// Memory that one connection adds.
    pub bytes_per_connection: BytesPerConnection,
    /// Probe connections that failed meanwhile; those that succeeded are in the histogram `probe`.
    pub probes_failed: u64,
}

/// A network namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateNetwork {
    /// Buckets of the hash table of its TCP sockets; `None` before Linux 6.1, which does not tell.
    pub hash_buckets: Option<u64>,
    /// Why that table is the machine's; `None` if the namespace has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_because: Option<String>,
}

/// CPU time of both ends, with what the kernel did for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OpeningCpu {
    /// Seconds of what opened them; `None` if that was other processes.
    pub holders_s: Option<f64>,
    /// Seconds of the server's process; `None` if it is not visible.
    pub server_s: Option<f64>,
}

/// Memory in use at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUsage {
    /// Resident memory of the server's process; `None` if the process is not visible.
    pub rss_kib: Option<u64>,
    /// `Slab` of /proc/meminfo, the whole machine.
    pub slab_kib: u64,
    /// `SUnreclaim` of /proc/meminfo: the part of the slab that the kernel cannot reclaim.
    pub unreclaimable_kib: u64,
    /// Memory of TCP buffers in /proc/net/sockstat, this network namespace.
    pub tcp_kib: u64,
    /// TCP sockets in use in this network namespace, of /proc/net/sockstat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tcp_sockets: u64,
}

/// Growth between two readings divided by the number of connections, bytes; negative where memory
/// was freed meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesPerConnection {
    /// Resident memory of the server's process.
    pub user_space: Option<f64>,
    /// Kernel slab, for both ends of a connection.
    pub kernel_slab: f64,
    /// The unreclaimable part of it.
    pub kernel_unreclaimable: f64,
    /// TCP buffers.
    pub tcp_buffers: f64,
}

impl BytesPerConnection {
    /// From two readings between which `connections` were added.
    pub fn of(before: &MemoryUsage, after: &MemoryUsage, connections: u32) -> Self {
        let each = |from: u64, to: u64| bytes_per_connection(from, to, connections);
        Self {
            user_space: before.rss_kib.zip(after.rss_kib).map(|(from, to)| each(from, to)),
            kernel_slab: each(before.slab_kib, after.slab_kib),
            kernel_unreclaimable: each(before.unreclaimable_kib, after.unreclaimable_kib),
            tcp_buffers: each(before.tcp_kib, after.tcp_kib),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn bytes_per_connection(before_kib: u64, after_kib: u64, connections: u32) -> f64 {
    (after_kib as f64 - before_kib as f64) * 1024.0 / f64::from(connections.max(1))
}

/// Numbers that results of before did not have are left out where they are zero.
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_divided_by_the_connections() {
        let before = MemoryUsage { rss_kib: Some(100), slab_kib: 50, ..MemoryUsage::default() };
        let after = MemoryUsage { rss_kib: Some(110), slab_kib: 40, ..MemoryUsage::default() };
        let each = BytesPerConnection::of(&before, &after, 1024);
        assert_eq!((each.user_space, each.kernel_slab), (Some(10.0), -10.0));
        let without_connections = BytesPerConnection::of(&before, &after, 0);
        assert_eq!(without_connections.user_space, Some(10.0 * 1024.0));
    }
}
