//! Connect, echo, close, many times: nothing may be left behind.

use std::time::{Duration, Instant};

use super::suite::unreadable;
use super::{CaseError, Outcome, Target};
use crate::echo_client::pattern;
use crate::render::units;
use crate::sys::processes::{ServerProcess, open_connections};

/// After a warm-up, which is where memory is touched for the first time.
pub(super) fn cycles(target: &Target) -> Outcome {
    let server =
        ServerProcess::find(target.server.addr, target.options.pid).map_err(unreadable("/proc"))?;
    let message = pattern(51, 100);
    repeat(target, target.scaled(5_000, 3_000), &message)?;
    let before = Footprint::take(target, server.as_ref())?;
    let times = target.scaled(10_000, 1_000);
    repeat(target, times, &message)?;
    let after = settled(target, server.as_ref(), before)?;
    let times = units::count(times as u64);
    let Some(server) = server else {
        return Ok(format!("{times} times; the server's process is not on this machine"));
    };
    compare(before, after)?;
    Ok(format!(
        "{times} times; process {}: {} descriptors as before, {} connections, RSS {} → {} KiB",
        server.pid, after.descriptors, after.connections, before.rss_kib, after.rss_kib
    ))
}

/// What the server holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Footprint {
    descriptors: usize,
    /// Connections of its port that the kernel has, without those in TIME_WAIT.
    connections: usize,
    rss_kib: u64,
}

impl Footprint {
    fn take(target: &Target, server: Option<&ServerProcess>) -> Result<Self, CaseError> {
        let Some(server) = server else { return Ok(Self::default()) };
        Ok(Self {
            descriptors: server.descriptors().map_err(unreadable("its descriptors"))?,
            connections: open_connections(target.server.addr.port())
                .map_err(unreadable("/proc/net/tcp"))?,
            rss_kib: server.rss_kib().map_err(unreadable("its memory"))?,
        })
    }
}

/// The footprint once nothing more goes away: the last close may not have been heard of yet.
fn settled(
    target: &Target,
    server: Option<&ServerProcess>,
    before: Footprint,
) -> Result<Footprint, CaseError> {
    let until = target.server.deadline.min(Instant::now() + SETTLE);
    loop {
        let now = Footprint::take(target, server)?;
        let as_before =
            now.descriptors <= before.descriptors && now.connections <= before.connections;
        if as_before || Instant::now() >= until {
            return Ok(now);
        }
        target.server.pause(Duration::from_millis(20));
    }
}

fn compare(before: Footprint, after: Footprint) -> Result<(), CaseError> {
    let grown = |what: &str, from: u64, to: u64| {
        Err(CaseError::Failed(format!("afterwards {what}: {from} before, {to} after")))
    };
    if after.descriptors > before.descriptors {
        return grown("descriptors", before.descriptors as u64, after.descriptors as u64);
    }
    if after.connections > before.connections {
        return grown("open connections", before.connections as u64, after.connections as u64);
    }
    if after.rss_kib > before.rss_kib + RSS_SLACK_KIB {
        return grown("KiB resident", before.rss_kib, after.rss_kib);
    }
    Ok(())
}

/// Every second connection is reset, the others end in order.
fn repeat(target: &Target, times: usize, message: &[u8]) -> Result<(), CaseError> {
    for number in 0..times {
        let mut peer = target.server.connect()?;
        peer.round_trip(message)?;
        if number % 2 == 0 {
            peer.reset()?;
        }
    }
    Ok(())
}

/// How long the server may take to close the last ones.
const SETTLE: Duration = Duration::from_secs(5);
/// An allocator's and a log's noise; a leak of 100 bytes a cycle is as much.
const RSS_SLACK_KIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_named() {
        let before = Footprint { descriptors: 9, connections: 1, rss_kib: 5000 };
        assert_eq!(compare(before, Footprint { rss_kib: 6000, ..before }), Ok(()));
        let grown = [
            (Footprint { descriptors: 10, ..before }, "descriptors: 9 before, 10"),
            (Footprint { connections: 3, ..before }, "connections: 1 before, 3"),
            (Footprint { rss_kib: 7000, ..before }, "resident: 5000 before, 7000"),
        ];
        for (after, expected) in grown {
            let message = compare(before, after).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
