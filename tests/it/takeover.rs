//! The listening sockets go from one process to the next, and nothing queued or open is lost.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{HANDED_ON, Server, connect, program, round_trip, tightest_sandbox};

fn folder() -> (TempDir, String) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("door").to_string_lossy().into_owned();
    (folder, path)
}

fn serve(engine: &str, path: &str, listen: &str, args: &[&str]) -> Option<Server> {
    let sandbox = ["--sandbox", tightest_sandbox(engine), "--takeover", path, "--listen", listen];
    Server::start(engine, &[&sandbox[..], args].concat())
}

/// Other engines, other numbers of workers and another accept mode, under a load of connections
/// each of which has to be served.
#[test]
fn every_connection_is_served_through_three_takeovers() {
    let (_folder, path) = folder();
    let Some(mut serving) = serve("uring", &path, "127.0.0.1:0", &["--workers", "2"]) else {
        return;
    };
    let addr = serving.addr();
    let done = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let client = || {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                round_trip(&mut connect(addr), b"served");
                served += 1;
            }
            served
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        for (engine, args) in [
            ("epoll", ["--workers", "1", "--accept", "reuseport"]),
            ("uring", ["--workers", "3", "--accept", "shared"]),
            ("epoll", ["--workers", "2", "--accept", "reuseport"]),
        ] {
            let mut open = connect(addr);
            round_trip(&mut open, b"before");
            let next = serve(engine, &path, &addr.to_string(), &args).expect("takes over");
            assert_eq!(next.fields("listening")["inherited"], "takeover");
            serving.wait_for_log(HANDED_ON).expect("a line");
            round_trip(&mut open, b"the old one still serves it");
            drop(open);
            serving.wait_clean_exit();
            serving = next;
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("nobody was reset or refused") > 0);
        }
        serving
    });
    last.signal(Signal::TERM);
    last.wait_clean_exit();
}

#[test]
fn a_successor_that_cannot_start_leaves_the_old_one_serving() {
    let (_folder, path) = folder();
    for engine in ["uring", "epoll"] {
        let Some(serving) = serve(engine, &path, "127.0.0.1:0", &[]) else { return };
        let fail = |args: &[&str], reason: &str| {
            let mut command = program();
            command.args(["serve", "--takeover", &path]).args(args);
            let output = command.output().expect("runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(reason), "{said}");
            round_trip(&mut connect(serving.addr()), b"served by the old one");
        };
        fail(&["--listen", "127.0.0.1:1"], "does not name what is inherited");
        let addr = serving.addr().to_string();
        fail(&["--listen", &addr, "--listen", "[::1]:0"], &addr);
        if crate::support::ENGINES.contains(&"tokio-uring") {
            fail(&["--listen", &addr, "--engine", "tokio-uring"], "--engine uring or epoll");
        }
        let next = serve(engine, &path, &addr, &[]).expect("takes over after all");
        serving.wait_clean_exit();
        next.signal(Signal::TERM);
        next.wait_clean_exit();
    }
}

#[test]
fn a_path_left_by_a_killed_server_is_taken_and_a_file_is_not() {
    let (folder, path) = folder();
    let Some(killed) = serve("epoll", &path, "127.0.0.1:0", &[]) else { return };
    killed.signal(Signal::KILL);
    drop(killed);
    let next = serve("epoll", &path, "127.0.0.1:0", &[]).expect("starts anew");
    next.signal(Signal::TERM);
    next.wait_clean_exit();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").expect("written");
    let mut command = program();
    let output = command.args(["serve", "--takeover"]).arg(&file).output().expect("runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

/// As a service manager does it: the socket outlives the server, and its queue waits for the next.
#[test]
fn a_socket_of_a_service_manager_keeps_its_queue_over_a_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    for engine in ["uring", "epoll"] {
        let start = || {
            let mut command = std::process::Command::new("sh");
            let socket = OwnedFd::from(listener.try_clone().expect("a descriptor"));
            let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0";
            let server = env!("CARGO_BIN_EXE_uring-echo");
            command.args(["-c", script, "sh", server, "serve", "--log", "json"]);
            command.args(["--engine", engine, "--listen", &addr.to_string()]);
            Server::spawn({
                command.stdin(Stdio::from(socket));
                command
            })
        };
        let Some(first) = start() else { return };
        assert_eq!(first.fields("listening")["inherited"], "activation");
        round_trip(&mut connect(addr), b"served");
        first.signal(Signal::TERM);
        first.wait_clean_exit();
        let mut queued: TcpStream = connect(addr);
        let second = start().expect("the socket is as it was");
        round_trip(&mut queued, b"served from the queue");
        drop(queued);
        second.signal(Signal::TERM);
        second.wait_clean_exit();
    }
}
