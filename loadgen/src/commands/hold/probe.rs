//! Connections made beside those that are held, timed from when they were due to their echo.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::echo_client::{EchoError, EchoServer, pattern};
use crate::model::histogram::{HIGHEST_NS, Summary, new_histogram};
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// How long they took, and how many failed.
#[derive(Debug)]
pub(super) struct Probes {
    times: Histogram<u64>,
    pub(super) failed: u64,
}

impl Probes {
    /// For the result file.
    pub(super) fn summary(&self) -> Summary {
        Summary::of(&self.times)
    }

    /// A late probe waited for those before it, so its time counts from when it was due.
    fn add(&mut self, echoed: Result<(), EchoError>, since_due: Duration) {
        match echoed {
            Ok(()) => self.times.saturating_record(nanos(since_due).clamp(1, HIGHEST_NS)),
            Err(_) => self.failed += 1,
        }
    }
}

/// Probes at `rate` per second for `duration`, or only waits. A request to stop ends both.
pub(super) fn probe(
    addr: SocketAddr,
    rate: Option<f64>,
    duration: Duration,
    stop: &StopFlag,
) -> Option<Probes> {
    let start = Instant::now();
    let Some(rate) = rate else {
        sleep_until(start + duration, stop);
        return None;
    };
    let server = EchoServer::new(addr, start + duration + Duration::from_secs(10));
    let mut probes = Probes { times: new_histogram(), failed: 0 };
    for number in 0_u32.. {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        if due >= duration || !sleep_until(start + due, stop) {
            break;
        }
        let echoed = one(&server);
        probes.add(echoed, start.elapsed().saturating_sub(due));
    }
    Some(probes)
}

/// Whether it slept to the end: `false` after a request to stop.
fn sleep_until(end: Instant, stop: &StopFlag) -> bool {
    const STOP_CHECK: Duration = Duration::from_millis(50);
    while !stop.is_set() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(STOP_CHECK));
    }
    false
}

fn one(server: &EchoServer) -> Result<(), EchoError> {
    let mut client = server.connect()?;
    client.round_trip(&pattern(63, 64))?;
    client.reset()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_have_no_time() {
        let mut probes = Probes { times: new_histogram(), failed: 0 };
        probes.add(Ok(()), Duration::from_nanos(200));
        probes.add(Err(EchoError::Server("refused".into())), Duration::from_secs(1));
        let summary = probes.summary();
        assert_eq!((summary.count, summary.max, probes.failed), (1, Some(200), 1));
    }

    #[test]
    fn a_request_to_stop_ends_the_wait() {
        let stop = StopFlag::default();
        assert!(sleep_until(Instant::now(), &stop));
        stop.set();
        assert!(!sleep_until(Instant::now() + Duration::from_secs(60), &stop));
    }
}
