//! What a service manager is told, by a manager of the test's own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uring_echo::clock::monotonic_ns;

use crate::support::{ENGINES, Server, TIMEOUT, program, tightest_sandbox};

/// Listens as a service manager does, on an abstract socket or on a path.
pub(crate) struct Manager {
    socket: UnixDatagram,
    address: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    pub(crate) fn new(is_abstract: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify").to_string_lossy().into_owned();
        let (bound, address) = if is_abstract {
            (SocketAddr::from_abstract_name(&path), format!("@{path}"))
        } else {
            (SocketAddr::from_pathname(&path), path)
        };
        let socket = UnixDatagram::bind_addr(&bound.expect("an address")).expect("bound");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        Self { socket, address, _folder: folder }
    }

    fn message(&self) -> String {
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// The next message with this line; those that come before it are passed over.
    pub(crate) fn wait_for(&self, line: &str) -> String {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            let message = self.message();
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
        panic!("never told {line}");
    }

    /// What waits to be read.
    pub(crate) fn told(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket");
        let next = || {
            let mut bytes = [0; 4096];
            let len = self.socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
        };
        let told = std::iter::from_fn(next).collect();
        self.socket.set_nonblocking(false).expect("a socket");
        told
    }

    /// Makes it the manager of what `command` starts.
    pub(crate) fn introduce(&self, command: &mut Command, watchdog: Duration) {
        command.env("NOTIFY_SOCKET", &self.address);
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    pub(crate) fn start(&self, engine: &str, args: &[&str], watchdog: Duration) -> Option<Server> {
        let mut command = program();
        command.args(["serve", "--engine", engine, "--log", "json", "--listen", "127.0.0.1:0"]);
        self.introduce(command.args(args), watchdog);
        Server::spawn(command)
    }
}

#[test]
fn a_manager_is_told_ready_alive_reloading_and_stopping() {
    for (engine, is_abstract) in ENGINES.into_iter().zip([true, false, true]) {
        let manager = Manager::new(is_abstract);
        let args = ["--sandbox", tightest_sandbox(engine), "--workers", "2"];
        let watchdog = Duration::from_millis(400);
        let Some(server) = manager.start(engine, &args, watchdog) else { return };
        let ready = manager.wait_for("READY=1");
        assert!(ready.contains("STATUS=0 connections open, 0 accepted"), "{ready}");
        manager.wait_for("WATCHDOG=1");
        let before = monotonic_ns() / 1000;
        server.signal(Signal::HUP);
        let reloading = manager.wait_for("RELOADING=1");
        let now = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let now: u64 = now.expect("an instant").parse().expect("a number");
        assert!((before..=monotonic_ns() / 1000).contains(&now), "{reloading}");
        manager.wait_for("READY=1");
        server.signal(Signal::TERM);
        manager.wait_for("STOPPING=1");
        server.wait_clean_exit();
    }
}

/// A worker that does nothing for a second does so for longer than the watchdog waits.
#[test]
fn a_stuck_worker_is_told_by_silence() {
    let manager = Manager::new(true);
    let args = ["--workers", "1", "--stall", "1s/3s"];
    let watchdog = Duration::from_millis(200);
    let server = manager.start("epoll", &args, watchdog).expect("epoll is everywhere");
    manager.wait_for("READY=1");
    let mut last = Instant::now();
    let silent = || {
        manager.wait_for("WATCHDOG=1");
        std::mem::replace(&mut last, Instant::now()).elapsed()
    };
    let silence = std::iter::repeat_with(silent).take(40).max().expect("some");
    assert!(silence > watchdog * 2, "{silence:?}");
    drop(server);
}

#[test]
fn a_manager_that_cannot_be_told_ends_the_start_with_its_name() {
    let mut command = program();
    command.args(["serve", "--engine", "epoll", "--listen", "127.0.0.1:0"]);
    let output = command.env("NOTIFY_SOCKET", "/nowhere/notify").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOTIFY_SOCKET=/nowhere/notify"), "{text}");
}
