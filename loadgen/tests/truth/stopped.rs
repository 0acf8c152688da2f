//! A generator that is stopped: its own lateness, and nobody else's.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loadgen::model::outcome::Phase;
use loadgen::model::result::RunResult;
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Accept, Greeting, Server};

const STOP: Duration = Duration::from_millis(300);
const CONNECTIONS: usize = 500;
/// At 400 connections per second.
const GAP_NS: u64 = 2_500_000;

fn histogram(result: &RunResult, phase: Phase) -> Histogram<u64> {
    result.sampled(phase).expect("samples").histogram().expect("a histogram")
}

/// How many samples are longer than this.
fn longer(histogram: &Histogram<u64>, than_ns: u64) -> u64 {
    histogram.len() - histogram.count_between(0, than_ns)
}

/// The longest time without an accept.
fn pause(record: &[Accept]) -> u64 {
    let pauses = record.windows(2).map(|pair| pair[1].returned_ns - pair[0].returned_ns);
    pauses.max().unwrap_or(0)
}

#[test]
fn a_stop_of_the_generator_is_in_the_response_and_not_in_the_accept_delay() {
    let server = Server::start(CONNECTIONS + 1, |_| Duration::ZERO, Greeting::Stamp);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let args = format!("run {} --observe stamp --rate 400", server.addr);
    command.args(args.split_whitespace());
    command.args(["--connections", &CONNECTIONS.to_string(), "--quiet", "--json", "-"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.accepted() < CONNECTIONS / 3 {
        assert!(Instant::now() < deadline, "{} accepted", server.accepted());
        thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    thread::sleep(STOP);
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "INVALID");
    let result = RunResult::parse(&output.stdout).unwrap();
    let codes: Vec<&str> = result.verdict.reasons.iter().map(|it| it.code.as_str()).collect();
    assert!(codes.contains(&"generator_lag"), "{codes:?}");
    // One connection came before the load, to ask the server how it can be observed.
    let paused_ns = pause(&server.record()[1..]);
    let stop_ns = u64::try_from(STOP.as_nanos()).unwrap();
    assert!(paused_ns >= stop_ns - GAP_NS, "accepts paused for {paused_ns} ns");
    // The first that was due while it was stopped was accepted after all of the pause but a gap.
    let responses = histogram(&result, Phase::AcceptResponse);
    let slowest_ns = responses.highest_equivalent(responses.max());
    assert!(slowest_ns >= paused_ns - GAP_NS, "{slowest_ns} ns, paused for {paused_ns} ns");
    let due_and_late = longer(&responses, stop_ns / 3);
    assert!(due_and_late >= 70, "{due_and_late} responses took a third of the stop");
    // At most the one that was being called.
    let delays = histogram(&result, Phase::AcceptDelay);
    let slow = longer(&delays, stop_ns - GAP_NS);
    assert!(slow <= 1, "{slow} accept delays are as long as the stop");
    assert_eq!(delays.len(), CONNECTIONS as u64);
}
