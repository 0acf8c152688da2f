//! A server whose clock drifts, or is set: its stamps are of a clock that this test makes, so that
//! the true offset is known at every accept.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use loadgen::model::outcome::Outcome;
use loadgen::model::result::RunResult;
use uring_echo::clock::monotonic_ns;
use uring_echo::stamp::{AcceptMode, ClockDomain, Engine, Stamp};

/// A clock by another one.
#[derive(Debug, Clone, Copy)]
struct Clock {
    began_ns: u64,
    ahead_s: i64,
    ppm: i64,
    /// It is set forward by this at the accept of that number.
    set_ns: i64,
    set_at: u64,
}

impl Clock {
    fn steady(ahead_s: i64, ppm: i64) -> Self {
        Self { began_ns: monotonic_ns(), ahead_s, ppm, set_ns: 0, set_at: u64::MAX }
    }

    /// By how much it is ahead at the accept of this number.
    fn offset_ns(self, now_ns: u64, number: u64) -> i64 {
        let drift_ns = (now_ns - self.began_ns).cast_signed() * self.ppm / 1_000_000;
        let set_ns = if number >= self.set_at { self.set_ns } else { 0 };
        self.ahead_s * 1_000_000_000 + drift_ns + set_ns
    }
}

/// The offset at the last accept.
type Truth = Arc<Mutex<i64>>;

/// Stamps by the clock, of a domain that is nobody's here.
fn server(clock: Clock) -> (SocketAddr, Truth) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    rustix::net::listen(&listener, 4096).expect("listens");
    let addr = listener.local_addr().expect("bound");
    let truth = Truth::default();
    let told = Arc::clone(&truth);
    thread::spawn(move || {
        let mut open: [Option<TcpStream>; 256] = std::array::from_fn(|_| None);
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, now_ns) = (stream.expect("accepted"), monotonic_ns());
            let sequence = number as u64;
            let offset_ns = clock.offset_ns(now_ns, sequence);
            let stamp = Stamp {
                worker: 0,
                engine: Engine::Epoll,
                accept: AcceptMode::Shared,
                accepted_monotonic_ns: now_ns.checked_add_signed(offset_ns).expect("positive"),
                accepted_realtime_ns: 0,
                sequence,
                clock_domain: ClockDomain(7),
            };
            *told.lock().expect("no panic") = offset_ns;
            // A client that has gone does not need it.
            let _ = stream.write_all(&stamp.encode());
            // Long after its client has reset it.
            open[number % 256] = Some(stream);
        }
    });
    (addr, truth)
}

/// 600 connections in three seconds.
fn loadgen(addr: SocketAddr) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &addr.to_string(), "--observe", "stamp", "--messages", "0", "--quiet"])
        .args(["--rate", "200", "--connections", "600", "--json", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("started")
}

/// What they find out, and the offset at the last of them.
fn run(clock: Clock) -> (RunResult, i64) {
    let (addr, truth) = server(clock);
    let output = loadgen(addr);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{said}");
    let result = RunResult::parse(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let truth = *truth.lock().expect("no panic");
    (result, truth)
}

/// Whether the bounds at the end of the run contain the offset.
fn check_offset(result: &RunResult, truth_ns: i64) {
    let told = result.target.clock_offset.expect("another clock");
    let error_ns = told.offset_ns.abs_diff(truth_ns);
    println!("{told:?}, off by {error_ns} ns");
    assert!(error_ns <= told.bound_ns, "{told:?}, the truth is {truth_ns}");
}

#[test]
fn bounds_of_a_drifting_clock_contain_the_truth() {
    for (ahead_s, ppm) in [(86_400, 60), (3, 95), (-7, -95)] {
        check_drift(ahead_s, ppm);
    }
}

fn check_drift(ahead_s: i64, ppm: i64) {
    let (result, truth_ns) = run(Clock::steady(ahead_s, ppm));
    assert_eq!(result.outcomes.of(Outcome::Completed), 600, "{:?}", result.outcomes);
    check_offset(&result, truth_ns);
    // On a busy machine the bounds may exclude nothing.
    let Some(drift) = result.target.clock_offset.and_then(|told| told.drift) else { return };
    #[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
    let error = (drift.ppm - ppm as f64).abs();
    assert!(error <= drift.bound_ppm, "{drift:?}, the truth is {ppm}");
}

/// What no drift explains is said of the connections that show it, and the run is INVALID.
#[test]
fn a_clock_that_was_set_is_found_out() {
    let forward = Clock { set_ns: 30_000_000, set_at: 500, ..Clock::steady(5, 0) };
    for clock in [forward, Clock { set_ns: -30_000_000, ..forward }] {
        let (result, truth_ns) = run(clock);
        assert!(result.outcomes.of(Outcome::ClockError) > 0, "{clock:?} {:?}", result.outcomes);
        let reasons: Vec<_> = result.verdict.reasons.iter().map(|it| it.code.as_str()).collect();
        assert!(reasons.contains(&"clock_errors"), "{reasons:?}");
        assert_eq!(result.target.clock_offset.and_then(|told| told.drift), None, "it is no drift");
        check_offset(&result, truth_ns);
    }
}

/// Twice as fast: the connections before the run contradict each other.
#[test]
fn a_clock_that_runs_away_is_refused() {
    let (addr, _) = server(Clock::steady(5, 1_000_000));
    let output = loadgen(addr);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the clocks contradict each other"), "{said}");
}
