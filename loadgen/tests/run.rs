//! The program as a person runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn loadgen(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(args.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it did; `None`, loudly, where there is no io_uring.
fn run(args: &str) -> Option<Output> {
    let output = loadgen(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("io_uring_setup failed") && std::env::var_os("REQUIRE_URING").is_none() {
        eprintln!("SKIPPED, io_uring is not available: {words}");
        return None;
    }
    Some(output)
}

fn json(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

/// Judged by a machine that may be busy: the numbers count here, not the punctuality.
fn assert_reported(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
}

#[test]
fn the_embedded_server_accepts_every_connection() {
    for observe in ["stamp", "diag", "none"] {
        let args = format!("--rate 400 --connections 200 --observe {observe} --json - --quiet");
        let Some(output) = run(&args) else { return };
        assert_reported(&output);
        let result = json(&output);
        assert_eq!(result["outcomes"]["attempted"], 200);
        assert_eq!(result["outcomes"]["completed"], 200, "{:#}", result["outcomes"]);
        assert_eq!(result["target"]["observe"], observe);
        assert_eq!(result["server"]["engine"], "uring");
        let accepts = if observe == "none" { 0 } else { 200 };
        assert_eq!(result["histograms"]["accept_delay"]["count"], accepts);
        assert_eq!(result["histograms"]["echo_rtt"]["count"], 200);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_text_report_and_the_files_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("--burst 150 --out {}", folder.path().display());
    let Some(output) = run(&args) else { return };
    assert_reported(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("150 attempted: 150 completed"), "{text}");
    for name in ["result.json", "run.hlog", "accept_delay.hgrm"] {
        assert!(folder.path().join(name).is_file(), "{name}");
        assert!(text.contains(name), "{text}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("preflight: ports"));
}

#[test]
fn a_server_that_was_there_before_is_observed_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // The thread lives as long as the process of this test.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let Some(output) = run(&format!("{addr} --rate 300 --connections 150 --json -")) else {
        return;
    };
    assert_reported(&output);
    let result = json(&output);
    assert_eq!(result["target"]["observe"], "diag");
    assert_eq!(result["outcomes"]["completed"], 150, "{:#}", result["outcomes"]);
    assert_eq!(result["histograms"]["accept_delay"]["count"], 150);
}

#[test]
fn nobody_listening_is_an_outcome_and_no_error() {
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = bound.local_addr().unwrap().as_socket().unwrap();
    let Some(output) = run(&format!("{addr} --rate 100 --connections 10 --json -")) else { return };
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let result = json(&output);
    assert_eq!(result["outcomes"]["refused"], 10);
    assert_eq!(result["errnos"][0]["errno"], 111);
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

#[test]
fn usage_and_runtime_errors_are_told_apart() {
    let usage = loadgen("127.0.0.1:1 -- --stall 1s/2s").output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    let impossible = loadgen("--burst 500 --max-in-flight 10").output().unwrap();
    assert_eq!(impossible.status.code(), Some(1), "{impossible:?}");
    assert!(String::from_utf8_lossy(&impossible.stderr).contains("--max-in-flight"));
    let Some(failed) = run("-- --no-such-option") else { return };
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("--no-such-option"));
}

#[test]
fn a_source_of_somebody_else_is_refused_before_anything_is_started() {
    for command in ["run --rate 10", "hold --connections 10"] {
        let mut loadgen = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        loadgen.args(command.split_whitespace()).args(["--source", "203.0.113.0/24"]);
        let refused = loadgen.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(words.contains("203.0.113.1") && words.contains("--source"), "{words}");
        assert!(refused.stdout.is_empty() && words.lines().count() == 1, "{refused:?}");
    }
}

/// Starts a long run and reads stderr until it goes.
fn going(args: &str) -> Option<Child> {
    let mut child = loadgen(args).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.as_mut().unwrap());
    for line in stderr.lines() {
        let line = line.unwrap();
        if line.starts_with("t=") {
            return Some(child);
        }
        if line.contains("io_uring_setup failed") && std::env::var_os("REQUIRE_URING").is_none() {
            eprintln!("SKIPPED, io_uring is not available: {line}");
            child.wait().unwrap();
            return None;
        }
    }
    panic!("it ended before it went: {:?}", child.wait());
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    let Some(mut child) = going("--rate 100 --duration 10m --json -") else { return };
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["interrupted"], true);
    let count = |name: &str| result["outcomes"][name].as_u64().unwrap();
    assert!(count("attempted") > 0);
    let sum: u64 = result["outcomes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, 2 * count("attempted"), "the outcomes add up to the attempts");
}

#[test]
fn a_server_that_dies_ends_the_run() {
    let Some(child) = going("--rate 100 --duration 10m") else { return };
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let server: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(server).unwrap(), Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended during the run"));
}
