//! The stamp of a server that a test is itself.

use uring_echo::clock::realtime_ns;
use uring_echo::stamp::{AcceptMode, ClockDomain, Engine, Stamp};

/// What such a server sends first.
pub(crate) fn stamp(accepted_monotonic_ns: u64) -> Vec<u8> {
    let stamp = Stamp {
        worker: 0,
        engine: Engine::Epoll,
        accept: AcceptMode::Shared,
        accepted_monotonic_ns,
        accepted_realtime_ns: realtime_ns(),
        sequence: 0,
        clock_domain: ClockDomain::current().unwrap(),
    };
    stamp.encode().to_vec()
}
