//! `loadgen trace` on real sockets: what it says happened has happened in that order.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

fn trace(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("trace").args(args).output();
    output.expect("loadgen runs")
}

fn traced(args: &[&str]) -> Value {
    let output = trace(&[args, &["--json", "-"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON alone on stdout")
}

/// When an event happened first, nanoseconds from the call of connect.
fn at(result: &Value, event: &str) -> Option<i64> {
    let steps = result["trace"]["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["event"] == event)?;
    step["at_ns"].as_i64()
}

fn in_order(result: &Value, events: &[&str]) {
    let times: Vec<_> = events.iter().map(|event| at(result, event).expect(event)).collect();
    assert!(times.is_sorted(), "{events:?}: {times:?}");
}

#[test]
fn a_held_connection_is_connected_long_before_it_is_accepted() {
    let result = traced(&["--hold", "120ms"]);
    assert_eq!((&result["kind"], &result["schema_version"]), (&"trace".into(), &2.into()));
    in_order(&result, &["socket", "bind", "listen", "connect_called", "established", "accepted"]);
    in_order(&result, &["connect_called", "accept_queue", "accepted", "received", "echo_sent"]);
    in_order(&result, &["established", "sent", "first_byte", "echoed", "closed"]);
    in_order(&result, &["hold_began", "accepted"]);
    let [began, accepted] =
        ["hold_began", "accepted"].map(|event| at(&result, event).expect(event));
    assert!(accepted - began >= 120_000_000, "held for {} ns", accepted - began);
    assert_eq!(result["histograms"]["accept_delay"]["count"], 1);
    assert_eq!(result["outcomes"]["completed"], 1);
}

#[test]
fn a_full_queue_costs_a_syn_that_is_sent_again() {
    let result = traced(&["--backlog", "0"]);
    in_order(&result, &["queued", "connect_called", "syn_retransmitted", "established"]);
    assert_eq!(result["trace"]["queued_before"], 1, "a backlog of 0 holds one");
    let connected = at(&result, "established").expect("established");
    assert!(connected >= 900_000_000, "connected after {connected} ns: the SYN was not dropped");
}

#[test]
fn the_report_and_the_picture_have_every_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let (svg, json) = (folder.path().join("trace.svg"), folder.path().join("trace.json"));
    let files = [svg.to_str().expect("UTF-8"), json.to_str().expect("UTF-8")];
    let output = trace(&["--hold", "20ms", "--svg", files[0], "--json", files[1]]);
    assert!(output.status.success());
    let report = String::from_utf8(output.stdout).expect("UTF-8");
    let picture = std::fs::read_to_string(&svg).expect("the picture");
    for step in ["socket()", "bind()", "listen(128)", "connect() returns", "accept() returns"] {
        assert!(report.contains(step) && picture.contains(step), "{step}: {report}");
    }
    let again = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("report").arg(&json).output();
    let again = String::from_utf8(again.expect("loadgen runs").stdout).expect("UTF-8");
    assert!(report.starts_with(&again), "report prints the same picture: {again}");
}

#[test]
fn of_a_foreign_server_is_shown_what_can_be_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("its address").to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut message = [0; 16];
        stream.read_exact(&mut message).expect("a message");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("answered");
    });
    let result = traced(&[&addr]);
    server.join().expect("the server");
    in_order(&result, &["connect_called", "established", "sent", "first_byte", "answered"]);
    // A server that answers has accepted, however late the look was that showed it.
    in_order(&result, &["accepted", "first_byte"]);
    assert_eq!((at(&result, "bind"), at(&result, "echoed")), (None, None));
    assert_eq!(result["outcomes"]["not_echoed"], 1);
}

#[test]
fn a_port_where_nobody_listens_is_an_error_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let output = trace(&[&addr]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&addr) && said.contains("refused"), "{said}");
}
