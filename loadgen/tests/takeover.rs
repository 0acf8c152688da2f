//! A server is replaced three times under load: every attempt of loadgen completes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::server::SERVE;
use serde_json::Value;

/// Longer than anything takes on a busy machine, except for a hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server in a process of its own with its log in a file, killed when this value is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(folder: &Path, name: &str, listen: &str, args: &[&str]) -> Self {
        let log = folder.join(name);
        let door = folder.join("door");
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args([SERVE, "--log", "json", "--listen", listen, "--takeover"]).arg(door);
        command.args(args).stderr(Stdio::from(File::create(&log).expect("a log")));
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut server = Self { child: command.spawn().expect("started"), addr: unknown };
        let deadline = Instant::now() + TIMEOUT;
        server.addr = loop {
            if let Some(addr) = listening(&log) {
                break addr;
            }
            assert!(Instant::now() < deadline, "{name} does not listen");
            thread::sleep(Duration::from_millis(10));
        };
        server
    }

    /// Waits for an exit by itself.
    fn ended_well(mut self) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return assert!(status.success(), "{status}");
            }
            assert!(Instant::now() < deadline, "the one before does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let (Ok(()) | Err(_)) = self.child.kill();
        self.child.wait().expect("a child of ours");
    }
}

/// The address in the ready line, once there is one.
fn listening(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fields = lines.map(|mut line| line["fields"].take());
    fields.find(|fields| fields["message"] == "listening")?["addr"].as_str()?.parse().ok()
}

#[test]
fn no_attempt_is_lost_through_three_takeovers() {
    if std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|v| v.trim() != "0")
    {
        eprintln!("SKIPPED: io_uring is disabled here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let workers = |engine, count| ["--engine", engine, "--workers", count];
    let mut serving = Server::start(folder.path(), "first", "127.0.0.1:0", &workers("uring", "2"));
    let addr = serving.addr.to_string();
    let run = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &addr, "--rate", "500", "--duration", "5s", "--warmup", "0s"])
        .args(["--observe", "none", "--messages", "1", "--json", "-", "--quiet"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let successors = [("second", "epoll", "1"), ("third", "uring", "3"), ("fourth", "uring", "1")];
    for (name, engine, count) in successors {
        thread::sleep(Duration::from_millis(500));
        let next = Server::start(folder.path(), name, &addr, &workers(engine, count));
        std::mem::replace(&mut serving, next).ended_well();
    }
    let output = run.wait_with_output().expect("a child of ours");
    let result: Value = serde_json::from_slice(&output.stdout).expect("a result");
    let outcomes = &result["outcomes"];
    // On a machine too busy for the schedule some are never begun; of the others none is lost.
    let begun =
        outcomes["attempted"].as_u64().unwrap_or(0) - outcomes["not_begun"].as_u64().unwrap_or(0);
    assert!(begun > 0, "{outcomes}");
    assert_eq!(outcomes["completed"].as_u64(), Some(begun), "{outcomes}");
}
