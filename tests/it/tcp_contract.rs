//! What manual pages and RFCs promise about socket, bind, listen, accept and connect.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use uring_echo::clock::monotonic_ns;
use uring_echo::stamp::{FRAME_LEN, Stamp};

use crate::support::{Server, TIMEOUT, connect, on_each_engine, program, round_trip, wait_until};

/// A connect that was started and not waited for.
fn start_connecting(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(115), "EINPROGRESS: {error}"),
    }
    socket
}

fn is_connected(socket: &Socket) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).expect("poll");
    socket.take_error().expect("a socket").is_none() && fds[0].revents().contains(PollFlags::OUT)
}

fn read_stamp(stream: &mut impl Read) -> Stamp {
    let mut frame = [0; FRAME_LEN];
    stream.read_exact(&mut frame).expect("a frame");
    Stamp::decode(&frame).expect("a stamp")
}

#[test]
fn a_failing_step_names_itself_and_the_address() {
    on_each_engine(&["--workers", "2"], |first| {
        let taken = first.addr().to_string();
        for (addr, cause) in [
            (taken.as_str(), "in use"),
            ("192.0.2.1:7", "no interface here has the address 192.0.2.1"),
        ] {
            let refused = program().args(["serve", "--listen", addr]).output().expect("runs");
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{text}");
            assert!(text.contains(&format!("bind {addr}: ")) && text.contains(cause), "{text}");
        }
    });
}

#[test]
fn a_port_without_permission_is_explained() {
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:7"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let Ok(refused) = command.output() else {
        eprintln!("SKIPPED, an unprivileged user cannot run the program from where it is");
        return;
    };
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    if text.contains("io_uring") {
        eprintln!("SKIPPED, no io_uring for this user: {text}");
        return;
    }
    assert_eq!(refused.status.code(), Some(1), "{text}");
    let explained = text.contains("bind 127.0.0.1:7: ") && text.contains("CAP_NET_BIND_SERVICE");
    assert!(explained, "{text}");
}

#[test]
fn a_backlog_of_five_queues_six_and_the_next_is_still_connecting() {
    on_each_engine(&["--backlog", "5", "--workers", "1"], |server| {
        server.pause();
        let clients: Vec<Socket> = (0..8).map(|_| start_connecting(server.addr())).collect();
        let connected = || clients.iter().filter(|client| is_connected(client)).count();
        wait_until("six are queued", || connected() == 6);
        // The kernel retries a dropped SYN after a second: until then nothing can change.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(connected(), 6, "the queue holds backlog + 1");
        assert!(clients.iter().all(|client| client.take_error().expect("a socket").is_none()));
        server.resume();
        wait_until("all are connected", || connected() == 8);
        for client in clients {
            client.set_nonblocking(false).expect("a socket");
            client.set_read_timeout(Some(TIMEOUT)).expect("a socket");
            round_trip(&mut client.into(), b"late but not lost");
        }
    });
}

#[test]
fn the_effective_backlog_is_reported() {
    let args = ["serve", "--log", "json", "--listen", "127.0.0.1:0", "--backlog", "2000000000"];
    let mut command = program();
    command.args(args).args(["--workers", "1"]);
    let Some(server) = Server::spawn(command) else { return };
    let limit = uring_echo::sys::procfs::somaxconn().expect("a sysctl").to_string();
    let reported = server.fields("listening")["backlog_effective"].to_string();
    assert_eq!(reported, limit);
    assert!(server.end().success());
}

#[test]
fn connections_are_accepted_in_the_order_they_arrived() {
    on_each_engine(&["--stamp", "--workers", "1"], |server| {
        server.pause();
        let mut clients: Vec<_> = (0..50).map(|_| connect(server.addr())).collect();
        server.resume();
        let sequence: Vec<u64> =
            clients.iter_mut().map(|client| read_stamp(client).sequence).collect();
        assert_eq!(sequence, (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn accept_tells_the_peers_address() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let mut command = program();
        command.args(["serve", "--log", "json", "--listen", listen]).env("RUST_LOG", "debug");
        let Some(server) = Server::spawn(command) else { return };
        for _ in 0..3 {
            let client = connect(server.addr());
            let accepted = server.wait_for_log("accepted").expect("a log line");
            let local = client.local_addr().expect("connected");
            assert_eq!(accepted["peer"], local.to_string());
        }
        assert!(server.end().success());
    }
}

/// Serves 30 connections one after the other; how many of them an accept of their own brought.
fn accepted_singly(level: &str, args: &[&str]) -> Option<u64> {
    let mut command = program();
    command.args(["serve", "--log", "json", "--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn({
        command.args(args).env("RUST_LOG", level);
        command
    })?;
    (0..30).for_each(|n| round_trip(&mut connect(server.addr()), &[n; 100]));
    server.signal(Signal::TERM);
    let stopped = server.wait_for_log("stopped").expect("a summary");
    assert_eq!(stopped["accepted"], 30);
    let looked_up = server.count_seen("accepted");
    assert_eq!(looked_up, if level == "debug" { 30 } else { 0 });
    assert!(server.wait().success());
    stopped["accepted_singly"].as_u64()
}

#[test]
fn a_log_level_does_not_change_how_connections_are_accepted() {
    for level in ["info", "debug"] {
        let Some(alone) = accepted_singly(level, &["--sandbox", "require"]) else { return };
        assert_eq!(alone, 0, "one accept brings all, with RUST_LOG={level}");
        let Some(counted) = accepted_singly(level, &["--max-per-ip", "50"]) else { return };
        assert_eq!(counted, 30, "a limit per address needs each accept to tell it");
    }
}

#[test]
fn connect_returns_when_the_connection_is_queued_not_when_it_is_accepted() {
    on_each_engine(&["--stamp", "--workers", "1"], |server| {
        server.pause();
        let called: Vec<u64> = (0..20).map(|_| monotonic_ns()).collect();
        let mut clients: Vec<_> = called.iter().map(|_| connect(server.addr())).collect();
        // Every connect has returned although nobody can have accepted.
        std::thread::sleep(Duration::from_millis(200));
        let released = monotonic_ns();
        server.resume();
        for (client, called) in clients.iter_mut().zip(called) {
            let accepted = read_stamp(client).accepted_monotonic_ns;
            let delay = accepted.checked_sub(called).expect("accepted after connect was called");
            assert!(delay >= released - called, "accepted while the server was held");
            round_trip(client, b"and then it is served");
        }
    });
}

#[test]
fn several_addresses_of_both_families_are_served_at_once() {
    let listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", "127.0.0.2:0"];
    for accept in ["reuseport", "shared"] {
        let args: Vec<&str> =
            listen.into_iter().chain(["--accept", accept, "--workers", "2"]).collect();
        on_each_engine(&args, |server| {
            let mut addrs = vec![server.addr()];
            for _ in 1..3 {
                let line = server.wait_for_log("listening").expect("a line for each address");
                addrs.push(crate::support::addr_field(&line));
            }
            for addr in addrs {
                round_trip(&mut connect(addr), addr.to_string().as_bytes());
            }
        });
    }
}

#[test]
fn it_says_where_it_listens_at_every_log_level() {
    for level in ["error", "off"] {
        let mut command = program();
        command.args(["serve", "--log", "json", "--listen", "127.0.0.1:0"]).env("RUST_LOG", level);
        let Some(server) = Server::spawn(command) else { return };
        round_trip(&mut connect(server.addr()), b"there");
        assert!(server.end().success());
    }
}
