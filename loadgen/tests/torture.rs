//! The torture suite against the embedded server, and against a server with a fault.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;

use loadgen::commands::torture::Options;
use loadgen::commands::torture::suite::{self, results, select};
use loadgen::model::torture::{CaseResult, CaseStatus};
use loadgen::server::SERVE;
use loadgen::sys::signals::StopFlag;
use serde_json::Value;

/// A server in a process of its own, killed when this value is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args([SERVE, "--listen", "127.0.0.1:0", "--log", "json", "--workers", "2"]);
        command.args(["--engine", "auto"]);
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

#[test]
fn the_server_passes_every_case() {
    for args in [["--accept", "reuseport"], ["--accept", "shared"]] {
        let server = Server::start(&args);
        let options = Options { quick: true, pid: Some(server.child.id()) };
        let results = suite::run(server.addr, options);
        assert_eq!(results.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), CASES);
        assert_all_passed(&results);
    }
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
