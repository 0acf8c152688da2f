//! Histograms beside the record of a server that sleeps before each accept.
//!
//! The queue is first in, first out, and one thread connects in the order of its plan: accept
//! number n is that of arrival n. So each delay has bounds that the server and the plan know, and
//! between the sorted bounds lies every quantile of the histogram.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use loadgen::cli::{Cli, Command};
use loadgen::commands::run::options;
use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::connection::Method;
use loadgen::generate::recorder::Recording;
use loadgen::generate::{Delivery, GenerateError, GeneratorPlan, GeneratorThreads};
use loadgen::model::histogram::new_histogram;
use loadgen::model::load::TransportChoice;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::plan::schedule::{PlanShare, Schedule};
use uring_echo::stamp::ClockDomain;

use crate::server::{Accept, Greeting, Pause, Server};

/// What was recorded on both sides.
struct Measured {
    reported: Recording,
    /// When the plan wanted each connection, monotonic.
    intended_ns: Vec<u64>,
    accepts: Vec<Accept>,
}

fn plan(server: &Server, method: Method, transport: TransportChoice, args: &str) -> GeneratorPlan {
    let line = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
    let Command::Run(run) = Cli::try_parse_from(line).expect(args).command else {
        panic!("{args}")
    };
    let mut config = options::resolve(&run).expect(args);
    config.transport = transport;
    GeneratorPlan {
        config,
        target: server.addr,
        method,
        messages: 0,
        clock_domain: ClockDomain::current().unwrap(),
        clock_offset: None,
        cpus: Vec::new(),
        yields: true,
    }
}

/// Prints that it skips and returns `None` where there is no io_uring for the transport.
fn measure(
    args: &str,
    pause: Pause,
    method: Method,
    transport: TransportChoice,
) -> Option<Measured> {
    let greeting = if method == Method::Stamp { Greeting::Stamp } else { Greeting::Silence };
    let server = Server::start(CONNECTIONS, pause, greeting);
    let plan = Arc::new(plan(&server, method, transport, args));
    let offsets = Schedule::for_thread(&plan.config, PlanShare::WHOLE).unwrap();
    let threads = match GeneratorThreads::start(&plan, &Arc::new(AtomicBool::new(false))) {
        Err(GenerateError::Ring { error }) if std::env::var_os("REQUIRE_URING").is_none() => {
            eprintln!("SKIPPED, io_uring is not available: {error}");
            return None;
        }
        threads => threads.unwrap(),
    };
    let start_ns = threads.start_ns();
    let mut aggregate = Aggregate::new(1);
    loop {
        match threads.next(Duration::from_secs(60)) {
            Delivery::Interval(interval) => aggregate.absorb(&interval),
            Delivery::Nothing => panic!("{args}: nothing for a minute"),
            Delivery::Over => break,
        }
    }
    aggregate.finish();
    threads.join().unwrap();
    Some(Measured {
        reported: aggregate.all().clone(),
        intended_ns: offsets.map(|offset| start_ns + offset).collect(),
        accepts: server.record(),
    })
}

impl Measured {
    /// From the instant planned to an instant of the accept.
    fn responses(&self, instant: fn(&Accept) -> u64) -> Vec<u64> {
        let pairs = self.accepts.iter().zip(&self.intended_ns);
        pairs.map(|(accept, intended)| instant(accept).saturating_sub(*intended)).collect()
    }

    fn max(&self, phase: Phase) -> u64 {
        let histogram = self.reported.histogram(phase);
        histogram.highest_equivalent(histogram.max())
    }

    fn check_counts(&self) {
        let counts = self.reported.counts();
        let observed = self.reported.histogram(Phase::AcceptDelay).len();
        assert_eq!((self.accepts.len(), self.intended_ns.len()), (CONNECTIONS, CONNECTIONS));
        assert_eq!(counts.outcome(Outcome::Completed), CONNECTIONS as u64, "{counts:?}");
        assert_eq!(observed, CONNECTIONS as u64, "{counts:?}");
    }

    /// The stamp is the truth: the same histogram to the last bucket.
    fn check_stamped(&self) {
        let mut truth = new_histogram();
        let responses = self.responses(|accept| accept.returned_ns);
        responses.iter().for_each(|ns| truth.record(*ns).unwrap());
        assert_eq!(*self.reported.histogram(Phase::AcceptResponse), truth);
        self.check_delays(0);
    }

    /// Seen from outside, within the resolution that is stated.
    fn check_observed(&self) {
        assert_eq!(self.reported.histogram(Phase::DiagResolution).len(), CONNECTIONS as u64);
        let resolution = self.max(Phase::DiagResolution);
        let low = self.responses(|accept| accept.called_ns);
        let high = self.responses(|accept| accept.returned_ns);
        between(self.reported.histogram(Phase::AcceptResponse), low, high, resolution);
        self.check_delays(resolution);
    }

    /// A connection was called no earlier than planned, no later than it was in the queue, and not
    /// later than planned by more than the lag that is reported.
    fn check_delays(&self, resolution: u64) {
        let lag = self.max(Phase::GeneratorLag);
        let planned = self.responses(|accept| accept.called_ns);
        let low = self.accepts.iter().zip(planned).map(|(accept, planned)| {
            (accept.called_ns - accept.queued_ns).max(planned.saturating_sub(lag))
        });
        let high = self.responses(|accept| accept.returned_ns);
        between(self.reported.histogram(Phase::AcceptDelay), low.collect(), high, resolution);
    }
}

/// Whether each of the sorted samples lies between the sorted bounds, give or take the resolution
/// of the observer and that of the histogram.
fn between(histogram: &Histogram<u64>, mut low: Vec<u64>, mut high: Vec<u64>, resolution: u64) {
    low.sort_unstable();
    high.sort_unstable();
    let samples = histogram
        .iter_recorded()
        .flat_map(|step| (0..step.count_at_value()).map(move |_| step.value_iterated_to()));
    for (rank, ((sample, low), high)) in samples.zip(low).zip(high).enumerate() {
        let (least, most) =
            (histogram.lowest_equivalent(sample), histogram.highest_equivalent(sample));
        assert!(
            most.saturating_add(resolution) >= low && least <= high.saturating_add(resolution),
            "sample {rank}: {least} to {most} ns, the truth is {low} to {high} ns, ± {resolution}"
        );
    }
}

fn hold_to_the_truth(args: &str, pause: Pause) {
    let args = format!("{args} --connections {CONNECTIONS}");
    for transport in [TransportChoice::Uring, TransportChoice::Epoll] {
        for method in [Method::Stamp, Method::Diag] {
            let Some(measured) = measure(&args, pause, method, transport) else { continue };
            measured.check_counts();
            match method {
                Method::Stamp => measured.check_stamped(),
                _ => measured.check_observed(),
            }
        }
    }
}

const CONNECTIONS: usize = 80;

/// Mostly shorter than the gaps between the arrivals, sometimes longer.
fn mixed(number: usize) -> Duration {
    Duration::from_micros([200, 1_000, 4_000][number % 3])
}

#[test]
fn constant_arrivals() {
    hold_to_the_truth("--rate 500", mixed);
}

#[test]
fn poisson_arrivals() {
    hold_to_the_truth("--rate 500 --arrivals poisson --seed 7", mixed);
}

#[test]
fn bursts() {
    hold_to_the_truth("--burst 40 --every 60ms", |_| Duration::from_micros(500));
}

/// Everything that arrives meanwhile waits for the rest of it, and nothing that waited is left out.
#[test]
fn a_stall() {
    hold_to_the_truth("--rate 500", |number| {
        Duration::from_micros(if number == 30 { 100_000 } else { 200 })
    });
}

/// What the tests rely on: a histogram that is not the truth is found out.
#[test]
#[should_panic(expected = "the truth is")]
fn a_sample_beyond_the_bounds_is_noticed() {
    let mut histogram = new_histogram();
    [1_000_000, 3_000_000].iter().for_each(|ns| histogram.record(*ns).unwrap());
    between(&histogram, vec![900_000, 900_000], vec![1_100_000, 1_100_000], 50_000);
}
