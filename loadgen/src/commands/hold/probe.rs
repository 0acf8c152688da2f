//! Connections made beside those that are held, timed from connect to echo.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::target;
use crate::commands::torture::Target;
use crate::echo_client::pattern;

/// What they took.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Probes {
    pub(super) echoed: usize,
    pub(super) failed: usize,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

/// Probes at `rate` per second for `duration`, or only waits.
pub(super) fn probe(addr: SocketAddr, rate: Option<f64>, duration: Duration) -> Option<Probes> {
    let Some(rate) = rate else {
        thread::sleep(duration);
        return None;
    };
    let target = target(addr, duration + Duration::from_secs(10));
    let start = Instant::now();
    let mut times = Vec::new();
    let mut failed = 0;
    for number in 0_u32.. {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        if due >= duration {
            break;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        match one(&target) {
            // From when it was due: a late one waited for those before it.
            Some(()) => times.push(start.elapsed().saturating_sub(due)),
            None => failed += 1,
        }
    }
    Some(Probes { failed, ..Probes::of(times) })
}

impl Probes {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
            let time = times.get(index).copied().unwrap_or_default();
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        };
        Self { echoed: times.len(), failed: 0, p50_ns: at(50), p99_ns: at(99), max_ns: at(100) }
    }
}

fn one(target: &Target) -> Option<()> {
    let mut peer = target.connect().ok()?;
    peer.round_trip(&pattern(63, 64)).ok()?;
    peer.reset().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let probes = Probes::of((1..=200).rev().map(Duration::from_nanos).collect());
        assert_eq!((probes.p50_ns, probes.p99_ns, probes.max_ns), (100, 198, 200));
        assert_eq!(Probes::of(Vec::new()).max_ns, 0);
    }
}
