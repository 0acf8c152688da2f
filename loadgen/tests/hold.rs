//! `loadgen hold` as a person runs it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

/// Runs it where a process may have 1,000 descriptors; `None`, loudly, where there is no io_uring.
fn hold(args: &str) -> Option<(Output, Value)> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 1000; exec \"$0\" hold --json - \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_loadgen")).args(args.split_whitespace());
    let output = command.stdin(Stdio::null()).output().expect("started");
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("io_uring_setup failed") && std::env::var_os("REQUIRE_URING").is_none() {
        eprintln!("SKIPPED, io_uring is not available: {words}");
        return None;
    }
    let held = serde_json::from_slice(&output.stdout);
    let held = held.unwrap_or_else(|error| panic!("{error}: {words}"));
    Some((output, held))
}

#[test]
fn two_thousand_are_held_by_several_processes_and_weighed() {
    let args = "--connections 2000 --probe-rate 100 --duration 300ms -- --workers 4";
    let Some((output, held)) = hold(args) else { return };
    assert_eq!(output.status.code(), Some(0), "{held:#}");
    for (count, expected) in [("wanted", 2000), ("opened", 2000), ("echoed", 2000), ("lost", 0)] {
        assert_eq!(held[count], expected, "{count}: {held:#}");
    }
    assert_eq!(held["processes"], 3, "800 fit one: {held:#}");
    assert!(held["seen_by_kernel"].as_u64() >= Some(2000), "{held:#}");
    assert_eq!(
        (held["probes"]["echoed"].as_u64(), held["probes"]["failed"].as_u64()),
        (Some(30), Some(0))
    );
    assert!(held["before"]["rss_kib"].as_u64() > Some(0), "{held:#}");
    assert!(held["bytes_per_connection"]["user_space"].is_number(), "{held:#}");
}

/// Echoes, but closes a connection whose first words were few: those of one that is to be held.
fn forgetful_server() -> SocketAddr {
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
fn connections_that_the_server_gives_up_are_lost_and_a_failure() {
    let addr = forgetful_server();
    let Some((output, held)) = hold(&format!("{addr} --connections 50 --duration 1s")) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1), "{held:#}");
    assert_eq!((held["echoed"].as_u64(), held["lost"].as_u64()), (Some(50), Some(50)), "{held:#}");
    assert_eq!(held["probes"], Value::Null, "none were asked for");
}
