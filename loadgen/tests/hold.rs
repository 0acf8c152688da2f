//! `loadgen hold` as a user runs it.

#[path = "common/echo_server.rs"]
mod echo_server;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use loadgen::model::hold::Hold;
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

/// The part of the result that only `hold` has.
fn held(result: &RunResult) -> &Hold {
    result.hold.as_ref().expect("the part of hold")
}

#[test]
fn three_thousand_are_held_in_the_tables_of_several_rings() {
    let args = "--connections 3k --probe-rate 100 --duration 300ms";
    let (output, result) = hold(args);
    assert_eq!(output.status.code(), Some(0), "{result:#?}");
    let hold = held(&result);
    let counts = (hold.wanted, hold.opened, hold.echoed, hold.lost);
    assert_eq!(counts, (3000, 3000, 3000, 0), "{hold:#?}");
    assert_eq!((hold.processes, hold.rings), (1, 6), "a table has 500 entries: {hold:#?}");
    assert!(result.server.workers > Some(6), "{:#?}", result.server);
    assert_eq!((result.histograms["probe"].count, hold.probes_failed), (30, 0));
    assert_eq!(result.histograms["accept_delay"].count, 30, "stamped");
    assert_eq!((hold.closing_s.is_some(), hold.server_stop_s), (true, None), "{hold:#?}");
    assert!(hold.opening_cpu.is_some_and(|cpu| cpu.holders_s > Some(0.0)), "{hold:#?}");
    assert!(hold.seen_by_kernel >= Some(3000), "{hold:#?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for choice in ["memory: about", "--workers", "sources: 127.0.0.0/25", "6 rings"] {
        assert!(told.contains(choice), "{choice}: {told}");
    }
}

#[test]
fn the_server_can_be_stopped_while_all_are_open() {
    let (output, result) = hold("--connections 600 --duration 100ms --end server");
    assert_eq!(output.status.code(), Some(0), "{result:#?}");
    let hold = held(&result);
    assert_eq!((hold.echoed, hold.lost), (600, 0), "{hold:#?}");
    assert_eq!((hold.server_stop_s.is_some(), hold.closing_s), (true, None), "{hold:#?}");
}

#[test]
fn what_this_machine_cannot_hold_is_refused_before_anything_is_opened() {
    let refused = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.arg("hold").args(args).stdin(Stdio::null()).output().expect("started");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = refused(&["--connections", "4g"]);
    assert!(text.contains("RLIMIT_NOFILE") && text.contains("not 4000000000"), "{text}");
    let args = ["--connections", "100", "--", "--workers", "1", "--engine", "epoll"];
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 280; exec \"$0\" hold \"$@\"", env!("CARGO_BIN_EXE_loadgen")]);
    let output = few.args(args).stdin(Stdio::null()).output().expect("started");
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["RLIMIT_NOFILE 280", "hold 80 connections, not 100", "ulimit -n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn eight_hundred_are_held_by_several_processes_and_measured() {
    let args =
        "--connections 800 --probe-rate 100 --duration 300ms --holders processes -- --workers 4";
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

/// How long a hold may take until it has filled a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// An echo server for `most` connections; then it says so and answers nobody any more, or closes
/// everything that it has.
fn server_for(most: usize, then_closes: bool) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    let (full, is_full) = mpsc::channel();
    let echo = |mut stream: TcpStream| {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(got @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..got]).is_err() {
                return;
            }
        }
        // It is not the last handle of the connection that is dropped here.
        drop(stream.shutdown(Shutdown::Write));
    };
    thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming().map_while(Result::ok).take(most) {
            streams.push(stream.try_clone().expect("a second descriptor"));
            thread::spawn(move || echo(stream));
        }
        full.send(()).expect("the test waits");
        if then_closes {
            drop(listener);
            streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        } else {
            thread::park();
        }
    });
    (addr, is_full)
}

/// Starts `loadgen hold` for many at this server, which has room for fewer.
fn begun_hold(addr: SocketAddr, connections: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["hold", &addr.to_string(), "--connections", connections, "--json", "-"]);
    command.args(["--duration", "1s"]).stdout(Stdio::piped()).stdin(Stdio::null());
    command.spawn().expect("started")
}

#[test]
fn an_interruption_in_the_middle_of_opening_leaves_a_partial_result() {
    let (addr, is_full) = server_for(300, false);
    let child = begun_hold(addr, "2k");
    is_full.recv_timeout(PATIENCE).expect("it becomes full");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let result = RunResult::parse(&output.stdout).expect("a result");
    assert!(result.interrupted && !result.verdict.valid);
    let hold = held(&result);
    assert!((1..=300).contains(&hold.echoed) && hold.lost == 0, "{hold:#?}");
    assert_eq!(hold.ended_early.as_deref(), Some("a stop was asked for"), "{hold:#?}");
}

#[test]
fn a_server_that_dies_in_the_middle_is_not_asked_for_ever() {
    let (addr, is_full) = server_for(300, true);
    let child = begun_hold(addr, "10k");
    is_full.recv_timeout(PATIENCE).expect("it becomes full");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let result = RunResult::parse(&output.stdout).expect("a result");
    let hold = held(&result);
    assert!(hold.echoed <= 300 && hold.lost == hold.echoed, "{hold:#?}");
    assert!(hold.ended_early.is_some() && hold.first_error.is_some(), "{hold:#?}");
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
    thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let result = RunResult::parse(&output.stdout).expect("a result");
    assert!(result.interrupted && !result.verdict.valid);
    let hold = result.hold.expect("the part of hold");
    assert_eq!((hold.wanted, hold.lost), (20, 0), "{hold:#?}");
}
