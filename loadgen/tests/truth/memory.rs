//! A long run at a high rate needs no more memory than a short one.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::model::result::RunResult;

use crate::namespace;

/// Resident memory of a process in KiB; `None` once it is gone.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

const RUN: &str = "run --rate 20k --duration 5s --quiet --json -";

/// In a namespace of its own where that is possible: connection tracking may have no room for
/// 100,000 entries more beside those of other tests.
fn loadgen(args: &str) -> Command {
    if namespace::is_possible() {
        return namespace::unshared(&format!("exec \"$LOADGEN\" {args}"));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).stdin(Stdio::null());
    command
}

/// 20,000 connections a second: 60 bytes kept of each would show, and so would a table that grows.
#[test]
fn connections_that_are_over_leave_nothing_behind() {
    const DURATION: Duration = Duration::from_secs(5);
    const GROWTH_KIB: u64 = 2048;
    let mut child = loadgen(RUN).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reading = thread::spawn(move || {
        let mut json = Vec::new();
        stdout.read_to_end(&mut json).unwrap();
        json
    });
    let start = Instant::now();
    let mut samples = Vec::new();
    while child.try_wait().unwrap().is_none() {
        samples.extend(resident_kib(child.id()).map(|kib| (start.elapsed(), kib)));
        thread::sleep(Duration::from_millis(20));
    }
    let result = RunResult::parse(&reading.join().unwrap()).unwrap();
    assert_eq!(result.outcomes.attempted, 100_000);
    // By then each of the recordings that go round, one a second, has been touched once.
    let early = samples.iter().take_while(|(at, _)| *at < DURATION * 3 / 5).map(|(_, kib)| *kib);
    let (early, most) = (early.max().unwrap(), samples.iter().map(|(_, kib)| *kib).max().unwrap());
    assert!(most <= early + GROWTH_KIB, "from {early} to {most} KiB: {samples:?}");
}
