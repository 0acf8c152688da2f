//! Connections made beside those that are held, by the generator of `run`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use uring_echo::stamp::ClockDomain;

use super::HoldError;
use crate::generate::aggregation::Aggregate;
use crate::generate::connection::Method;
use crate::generate::{Delivery, GeneratorPlan, GeneratorThreads};
use crate::model::histogram::{Summary, new_histogram};
use crate::model::load::{Arrivals, Close, Observe, TransportChoice};
use crate::model::outcome::Phase;
use crate::observe::probe;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::schedule::PlanShare;
use crate::sys::signals::StopFlag;

/// How long they took, and how many failed.
#[derive(Debug)]
pub(super) struct Probes {
    /// By the name of the phase; `probe` is from connect to the first byte from the server.
    pub(super) histograms: BTreeMap<String, Summary>,
    pub(super) failed: u64,
}

/// What is to be probed, and how its accepts are observed.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) addr: SocketAddr,
    pub(super) sources: Vec<IpNet>,
    pub(super) rate: f64,
    /// The server is the embedded one, which stamps.
    pub(super) stamps: bool,
}

impl Probing {
    /// Probes for `duration`, or until a stop is asked for.
    pub(super) fn run(&self, duration: Duration, stop: &StopFlag) -> Result<Probes, HoldError> {
        let plan = Arc::new(self.plan(duration).map_err(HoldError::Clock)?);
        let threads = GeneratorThreads::start(&plan, &stop.shared()).map_err(HoldError::Probes)?;
        let mut all = Aggregate::new(plan.threads());
        loop {
            match threads.next(Duration::from_secs(1)) {
                Delivery::Interval(interval) => all.absorb(&interval),
                Delivery::Nothing => {}
                Delivery::Over => break,
            }
        }
        all.finish();
        threads.join().map_err(HoldError::Probes)?;
        Ok(Probes::of(&all))
    }

    fn plan(&self, duration: Duration) -> io::Result<GeneratorPlan> {
        let here = ClockDomain::current()?;
        Ok(GeneratorPlan {
            config: self.config(duration),
            target: self.addr,
            method: if self.stamps { Method::Stamp } else { method(self.addr, here) },
            messages: 1,
            clock_domain: here,
            clock_offset: None,
            cpus: Vec::new(),
            yields: true,
        })
    }

    fn config(&self, duration: Duration) -> RunConfig {
        RunConfig {
            target: Some(self.addr),
            shape: Shape::Rate { per_second: self.rate, arrivals: Arrivals::Constant },
            stop: Stop::After(duration),
            shard: PlanShare { index: 0, of: 1 },
            start_at: None,
            warmup: Duration::ZERO,
            messages: Some(1),
            send_first: false,
            size: 64,
            close: Close::Rst,
            sources: self.sources.clone(),
            threads: 1,
            cpus: None,
            max_in_flight: IN_FLIGHT,
            timeout: Duration::from_secs(10),
            seed: 63,
            observe: Observe::Auto,
            transport: TransportChoice::Auto,
            server_args: Vec::new(),
        }
    }
}

impl Probes {
    fn of(all: &Aggregate) -> Self {
        let phases: BTreeSet<Phase> = Phase::ALL.into_iter().collect();
        let seen = all.so_far(&phases);
        let mut histograms = seen.histograms;
        histograms.retain(|_, phase| phase.count > 0);
        let first_byte = histograms.get(Phase::FirstByte.name()).cloned();
        let first_byte = first_byte.unwrap_or_else(|| Summary::of(&new_histogram()));
        histograms.insert("probe".into(), first_byte);
        let completed = seen.outcomes.ended.get("completed").copied().unwrap_or(0);
        Self { histograms, failed: seen.outcomes.attempted.saturating_sub(completed) }
    }
}

/// How accepts of a server that is not ours can be observed.
fn method(server: SocketAddr, here: ClockDomain) -> Method {
    let Ok(found) = probe(server) else { return Method::None };
    match (found.stamp, found.diag) {
        (Some(stamp), _) if stamp.clock_domain.compares_with(here) => Method::Stamp,
        (_, Ok(())) => Method::Diag,
        (_, Err(_)) => Method::None,
    }
}

/// Waits for `duration`, or until a stop is asked for.
pub(super) fn wait(duration: Duration, stop: &StopFlag) {
    const STOP_CHECK: Duration = Duration::from_millis(50);
    let end = Instant::now() + duration;
    while !stop.is_set() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(STOP_CHECK));
    }
}

/// Probes at once: more are not begun but counted as failed.
const IN_FLIGHT: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_stop_ends_the_wait() {
        let stop = StopFlag::default();
        let start = Instant::now();
        wait(Duration::from_millis(1), &stop);
        assert!(start.elapsed() >= Duration::from_millis(1));
        stop.set();
        wait(Duration::from_secs(3600), &stop);
        assert!(start.elapsed() < Duration::from_secs(3600));
    }

    #[test]
    fn without_probes_there_is_nothing_to_tell() {
        let probes = Probes::of(&Aggregate::new(1));
        assert_eq!((probes.histograms["probe"].count, probes.failed), (0, 0));
    }
}
