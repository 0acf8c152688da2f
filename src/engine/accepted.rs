//! What an accept reports: why it ended, and the peer's address.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tracing::debug;

use super::context::WorkerContext;
use crate::config::Config;
use crate::echo::{AcceptEnd, PeerKey};

/// The log target of accepted peers, at debug level.
pub(crate) const PEER_LOG: &str = "uring_echo::peers";

/// What the peer addresses of accepted connections are needed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerTracking {
    count: bool,
    log: bool,
    /// The bits of an IPv6 address that are compared.
    ipv6_mask: u128,
}

impl PeerTracking {
    pub(super) const fn new(context: &WorkerContext) -> Self {
        let Config { max_per_ip, log_peers, ipv6_prefix, .. } = &context.config;
        let ignored = 128_u32.saturating_sub(*ipv6_prefix as u32);
        let ipv6_mask = if ignored >= 128 { 0 } else { u128::MAX << ignored };
        Self { count: max_per_ip.is_some(), log: *log_peers, ipv6_mask }
    }

    /// Whether they are needed at all.
    pub(super) const fn is_needed(self) -> bool {
        self.count || self.log
    }

    /// Whether connections are counted by peer: then the accept has to bring the address.
    pub(super) const fn counts(self) -> bool {
        self.count
    }

    /// Whether each peer is logged.
    pub(super) const fn logs(self) -> bool {
        self.log
    }

    /// Logs `peer` if asked for; returns the key under which the shard counts it.
    pub(super) fn record(self, peer: SocketAddr) -> PeerKey {
        if self.log {
            debug!(target: PEER_LOG, %peer, "accepted");
        }
        self.key(peer.ip())
    }

    /// An IPv4 address that a socket for both shows as an IPv6 one is that IPv4 address.
    fn key(self, ip: IpAddr) -> PeerKey {
        PeerKey(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits() & self.ipv6_mask,
        })
    }
}

/// accept(2) reports network errors of the new socket itself; those mean "try the next one". An
/// unknown error is treated like a shortage: the accept is armed again, but not at once.
pub(super) const fn accept_end(result: Result<u32, Errno>) -> AcceptEnd {
    match result {
        Ok(_) => AcceptEnd::Complete,
        Err(Errno::CANCELED) => AcceptEnd::Cancelled,
        Err(
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::INTR
            | Errno::AGAIN
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT,
        ) => AcceptEnd::Aborted,
        Err(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP) => AcceptEnd::Fatal,
        Err(_) => AcceptEnd::Exhausted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_peer_and_so_is_an_ipv4_address() {
        let tracking = |bits: u32| PeerTracking {
            count: true,
            log: false,
            ipv6_mask: u128::MAX << (128 - bits),
        };
        let same = |bits, a: &str, b: &str| {
            let key = |text: &str| tracking(bits).key(text.parse().expect("an address"));
            key(a) == key(b)
        };
        assert!(same(64, "2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same(64, "2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same(48, "2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(!same(128, "2001:db8::1", "2001:db8::2"));
        assert!(!same(1, "192.0.2.1", "192.0.2.2"));
        assert!(same(64, "192.0.2.1", "::ffff:192.0.2.1"));
    }
}
