//! What an accept reports: why it ended, and the peer's address.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tracing::debug;

use super::context::WorkerContext;
use crate::echo::{AcceptEnd, PeerKey};

/// The log target of accepted peers, at debug level.
pub(crate) const PEER_LOG: &str = "uring_echo::peers";

/// What the peer addresses of accepted connections are needed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerTracking {
    count: bool,
    log: bool,
}

impl PeerTracking {
    pub(super) const fn new(context: &WorkerContext) -> Self {
        Self { count: context.config.max_per_ip.is_some(), log: context.config.log_peers }
    }

    /// Whether they are needed at all.
    pub(super) const fn is_needed(self) -> bool {
        self.count || self.log
    }

    /// Logs `peer` if asked for; returns the key under which the shard counts it.
    pub(super) fn record(self, peer: SocketAddr) -> PeerKey {
        if self.log {
            debug!(target: PEER_LOG, %peer, "accepted");
        }
        PeerKey(match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
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
