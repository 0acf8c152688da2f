//! What an accept tells: why it ended, and who came.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tracing::debug;

use super::WorkerPlan;
use crate::echo::{AcceptEnd, PeerKey};

/// The log target of accepted peers, at debug level.
pub(crate) const PEER_LOG: &str = "uring_echo::peers";

/// Who wants to know the peers of accepted connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerInterest {
    count: bool,
    log: bool,
}

impl PeerInterest {
    pub(super) const fn new(plan: &WorkerPlan) -> Self {
        Self { count: plan.config.max_per_ip.is_some(), log: plan.config.log_peers }
    }

    /// Whether anybody does.
    pub(super) const fn any(self) -> bool {
        self.count || self.log
    }

    /// Notes one; what the shard counts it by.
    pub(super) fn note(self, peer: SocketAddr) -> PeerKey {
        if self.log {
            debug!(target: PEER_LOG, %peer, "accepted");
        }
        PeerKey(match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        })
    }
}

/// accept(2): network errors of the new socket are reported here and mean "try the next one".
/// What is not known here is treated like a shortage: asked again, but not at once.
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
