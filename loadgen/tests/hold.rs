//! `loadgen hold` as a user runs it.

#[path = "common/echo_server.rs"]
mod echo_server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use loadgen::model::result::{Kind, RunResult};
use rustix::process::{Pid, Signal, kill_process};

use echo_server::echo_server;

/// Runs `loadgen hold` with a limit of 500 descriptors per process.
fn hold(args: &str) -> (Output, RunResult) {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 500; exec \"$0\" hold --json - \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_loadgen")).args(args.split_whitespace());
    let output = command.stdin(Stdio::null()).output().expect("started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let result = RunResult::parse(&output.stdout);
    let result = result.unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(result.kind, Kind::Hold);
    (output, result)
}

#[test]
fn eight_hundred_are_held_by_several_processes_and_measured() {
    let args = "--connections 800 --probe-rate 100 --duration 300ms -- --workers 4";
    let (output, result) = hold(args);
    assert_eq!(output.status.code(), Some(0), "{result:#?}");
    let hold = result.hold.as_ref().expect("the part of hold");
    let counts = (hold.wanted, hold.opened, hold.echoed, hold.lost);
    assert_eq!(counts, (800, 800, 800, 0), "{hold:#?}");
    assert_eq!(hold.processes, 3, "300 connections fit in one process: {hold:#?}");
    assert!(hold.seen_by_kernel >= Some(800), "{hold:#?}");
    assert_eq!((result.histograms["probe"].count, hold.probes_failed), (30, 0));
    assert!(hold.before.rss_kib > Some(0), "{hold:#?}");
    assert!(hold.bytes_per_connection.user_space.is_some(), "{hold:#?}");
    assert_eq!((result.outcomes.attempted, result.outcomes.finished()), (800, 800));
    assert_eq!(result.server.workers, Some(4));
    assert!(result.verdict.valid);
}

/// An echo server that closes a connection after its first message, if that has at most 64 bytes; a
/// held connection sends such a message.
fn closing_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    let serve = |mut stream: TcpStream| {
        let mut buffer = vec![0; 64 << 10];
        let mut first = true;
        while let Ok(got @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..got]).is_err() || (first && got <= 64) {
                return;
            }
            first = false;
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

#[test]
fn connections_that_the_server_closes_are_lost_and_a_failure() {
    let addr = closing_server();
    let (output, result) = hold(&format!("{addr} --connections 50 --duration 1s"));
    assert_eq!(output.status.code(), Some(1), "{result:#?}");
    let hold = result.hold.as_ref().expect("the part of hold");
    assert_eq!((hold.echoed, hold.lost), (50, 50), "{hold:#?}");
    assert!(!result.histograms.contains_key("probe"), "no probes were requested");
}

#[test]
fn an_interrupted_hold_writes_a_partial_result() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["hold", &echo_server().to_string(), "--connections", "20"]);
    command.args(["--duration", "10m", "--json", "-"]).stdout(Stdio::piped());
    let child = command.stdin(Stdio::null()).spawn().expect("started");
    // Usually long enough for some of the warm-up; the result is written whenever the signal comes.
    thread::sleep(std::time::Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let result = RunResult::parse(&output.stdout).expect("a result");
    assert!(result.interrupted && !result.verdict.valid);
    let hold = result.hold.expect("the part of hold");
    assert_eq!((hold.wanted, hold.lost), (20, 0), "{hold:#?}");
}
