//! The torture suite against the embedded server, and against a server with a fault.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::commands::torture::Options;
use loadgen::commands::torture::suite::{results, select};
use loadgen::model::result::RunResult;
use loadgen::model::torture::{CaseResult, CaseStatus};
use loadgen::server::SERVE;
use loadgen::sys::signals::StopFlag;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A server in a process of its own, killed when this value is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::with_engine("auto", args)
    }

    fn with_engine(engine: &str, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args([SERVE, "--listen", "127.0.0.1:0", "--log", "json", "--workers", "2"]);
        command.args(["--engine", engine]);
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().expect("started");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        let addr = lines.by_ref().find_map(|line| {
            let fields = serde_json::from_str::<Value>(&line).ok()?["fields"].take();
            let listening = fields["message"] == "listening";
            listening.then(|| fields["addr"].as_str()?.parse().ok()).flatten()
        });
        // The log is read to its end, so that the server never blocks on writing it.
        thread::spawn(move || lines.for_each(drop));
        Self { child, addr: addr.expect("the server listens") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("a child of ours");
    }
}

fn assert_all_passed(results: &[CaseResult]) {
    let failed: Vec<_> = results.iter().filter(|case| case.status != CaseStatus::Passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The names of all cases.
const CASES: [&str; 18] = [
    "half-close-0",
    "half-close-1",
    "half-close-64k",
    "half-close-16m",
    "slow-reader",
    "one-byte-at-a-time",
    "pipelined",
    "slow-beside-normal",
    "trickle-readers",
    "reset-after-connect",
    "reset-after-send",
    "reset-mid-stream",
    "reset-half-closed",
    "reset-after-echo",
    "vanish",
    "burst",
    "cycles",
    "stop-continue",
];

/// The command with its JSON on stdout.
fn torture(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["torture", &addr.to_string(), "--quick", "--json", "-"]).args(args);
    command.stdin(Stdio::null());
    command
}

fn cases_of(output: &Output) -> Vec<CaseResult> {
    let result = RunResult::parse(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    result.torture.expect("the part of torture").cases
}

#[test]
fn the_server_passes_every_case() {
    let check = |mode| {
        let server = Server::start(&["--accept", mode]);
        let pid = server.child.id().to_string();
        let output = torture(server.addr, &["--pid", &pid]).output().expect("started");
        let results = cases_of(&output);
        assert_eq!(results.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), CASES);
        assert_all_passed(&results);
    };
    // Most of the time is waiting.
    thread::scope(|scope| {
        scope.spawn(|| check("reuseport"));
        check("shared");
    });
}

/// The engines that the test above does not try; side by side, because the readers take their time.
#[test]
fn slow_readers_are_served_by_the_other_engines_too() {
    let has_rings = uring_echo::ring::Ring::new(&uring_echo::ring::Setup::CALLS).is_ok();
    let tokio_uring = (has_rings && cfg!(feature = "tokio-uring")).then_some("tokio-uring");
    thread::scope(|scope| {
        for engine in ["epoll"].into_iter().chain(tokio_uring) {
            scope.spawn(move || {
                let server = Server::with_engine(engine, &[]);
                let output = torture(server.addr, &["--case", "trickle-readers"]).output();
                let results = cases_of(&output.expect("started"));
                assert_eq!(results.len(), 1, "{engine}");
                assert_all_passed(&results);
            });
        }
    });
}

/// Whether the process is suspended (proc_pid_stat(5)).
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
}

/// Waits until the process is suspended, or until it is not; `false` if that takes too long.
fn becomes(pid: u32, stopped: bool) -> bool {
    let start = Instant::now();
    while is_stopped(pid) != stopped {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Whatever ends the program while the server is held: the server goes on.
#[test]
fn a_held_server_goes_on_when_the_suite_is_killed() {
    let server = Server::start(&[]);
    let pid = server.child.id();
    for signals in [&[Signal::KILL] as &[_], &[Signal::TERM], &[Signal::INT, Signal::INT]] {
        let mut command = torture(server.addr, &["--case", "stop", "--pid", &pid.to_string()]);
        let mut suite = command.stdout(Stdio::null()).spawn().expect("started");
        assert!(becomes(pid, true), "held before {signals:?}");
        for signal in signals {
            kill_process(Pid::from_child(&suite), *signal).expect("a child of ours");
        }
        suite.wait().expect("a child of ours");
        assert!(becomes(pid, false), "held after {signals:?}");
    }
}

#[test]
fn a_process_that_must_not_be_stopped_is_a_usage_error() {
    let server = Server::start(&[]);
    let own = std::process::id().to_string();
    let missing = i32::MAX.to_string();
    for (pid, expected) in [(&*missing, "no process"), ("1", "process 1"), (&own, "started it")] {
        let output = torture(server.addr, &["--pid", pid]).output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{pid}: {stderr}");
        assert!(stderr.contains(&format!("--pid {pid}")), "{stderr}");
        assert_eq!(stderr.matches(expected).count(), 1, "{stderr}");
    }
}

/// What this machine lacks is no fault of the server, and a suite that tried nothing no success.
#[test]
fn too_few_descriptors_skip_a_case_with_the_remedy() {
    let server = Server::start(&[]);
    let mut command = Command::new("sh");
    let addr = server.addr.to_string();
    let script = "ulimit -n 30; exec \"$0\" torture \"$1\" --quick --json - --case slow-beside \
                  --case burst --case trickle";
    command.args(["-c", script, env!("CARGO_BIN_EXE_loadgen"), &addr]);
    let output = command.stdin(Stdio::null()).output().expect("started");
    let results = cases_of(&output);
    assert_eq!(results.len(), 3, "{results:#?}");
    for case in &results {
        assert_eq!(case.status, CaseStatus::Skipped, "{case:#?}");
        assert!(case.message.contains("raise that with ulimit -n"), "{case:#?}");
    }
    assert_eq!(output.status.code(), Some(1), "{results:#?}");
}

/// As a person runs it, who names the server's address and no process: what needs one says so.
#[test]
fn the_command_prints_a_row_for_every_case() {
    let server = Server::start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["torture", &server.addr.to_string(), "--quick"]);
    let output = command.output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let mut rows = text.lines();
    for case in CASES {
        let status = if case == "stop-continue" { "skip" } else { "PASS" };
        let row: Vec<_> = rows.next().unwrap_or_default().split_whitespace().take(2).collect();
        assert_eq!(row, [status, case], "{text}");
    }
    assert!(text.ends_with("17 passed, 0 failed, 1 skipped\n"), "{text}");
}

#[test]
fn the_cases_pass_against_a_server_that_sends_stamps() {
    let server = Server::start(&["--stamp"]);
    let options = Options { quick: true, pid: None };
    let cases = select(&["half-close".into(), "pipelined".into()]).expect("they exist");
    let results: Vec<_> = results(server.addr, options, cases, &StopFlag::default()).collect();
    assert_all_passed(&results);
}

/// Changes the last byte of every message that has more than one.
fn corrupting_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 4096];
            while let Ok(got @ 1..) = stream.read(&mut buffer) {
                if got > 1 {
                    buffer[got - 1] = !buffer[got - 1];
                }
                if stream.write_all(&buffer[..got]).is_err() {
                    break;
                }
            }
        }
    });
    addr
}

#[test]
fn a_case_fails_only_if_a_byte_was_changed() {
    let cases = select(&["half-close-1".into(), "pipelined".into()]).expect("they exist");
    let options = Options { quick: true, pid: None };
    let results: Vec<_> =
        results(corrupting_server(), options, cases, &StopFlag::default()).collect();
    let statuses = results.iter().map(|case| (case.name.as_str(), case.status)).collect::<Vec<_>>();
    let expected = [("half-close-1", CaseStatus::Passed), ("pipelined", CaseStatus::Failed)];
    assert_eq!(statuses, expected, "{results:#?}");
    assert!(results[1].message.contains("wrong one"), "{results:#?}");
}
