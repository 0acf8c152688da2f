//! The program as a user runs it, in a network namespace where a test needs one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

pub(crate) use crate::namespace::in_namespace;

/// What a server does with the connection of this number, from 0.
pub(crate) type Behaviour = fn(TcpStream, usize);

/// A script in a namespace, beside a server of a few lines of Python at port 7700; `$PID` is its
/// process. `None` also where there is no Python.
pub(crate) fn beside_python(server: &str, script: &str) -> Option<Output> {
    beside_python_as(":", server, script)
}

/// The same, after a command that may set `PYTHON` to another name of it.
pub(crate) fn beside_python_as(first: &str, server: &str, script: &str) -> Option<Output> {
    if Command::new("python3").arg("-V").output().is_err() {
        eprintln!("SKIPPED, python3 is not installed: {script}");
        return None;
    }
    let ready = "until grep -q ':1E14 .* 0A ' /proc/net/tcp; do sleep 0.05; done";
    in_namespace(&format!(
        "{{ {first}; ${{PYTHON:-python3}} -c '{PRELUDE}{server}' & PID=$!; {ready}; {script}; \
         status=$?; kill -9 $PID; exit $status; }}"
    ))
}

/// What every Python server begins with; `s` is its socket.
const PRELUDE: &str = "import socket, time, struct, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((\"127.0.0.1\", 7700))
";

/// loadgen with these words as its arguments.
pub(crate) fn loadgen(args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).stdin(Stdio::null());
    command.output().expect("it starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

/// The codes of the verdict's reasons and advice, and their texts.
pub(crate) fn said(result: &Value) -> (Vec<String>, String) {
    let found = ["reasons", "advice"].map(|part| result["verdict"][part].as_array());
    let found: Vec<&Value> = found.into_iter().flatten().flatten().collect();
    let text = |found: &Value, field: &str| found[field].as_str().expect(field).to_owned();
    let codes = found.iter().map(|found| text(found, "code")).collect();
    let texts: Vec<String> = found.iter().map(|found| text(found, "text")).collect();
    (codes, texts.join("\n"))
}

/// A bound address at which nobody listens, as long as the socket lives.
pub(crate) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// A server that accepts `count` connections, one after the other, and then is gone.
pub(crate) fn serving(count: usize, behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for number in 0..count {
            let (stream, _) = listener.accept().unwrap();
            behaviour(stream, number);
        }
    });
    addr
}
