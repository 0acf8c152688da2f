//! What happens at a limit.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{ENGINES, Server, TIMEOUT, connect, on_each_engine, pattern, round_trip};

#[test]
fn connections_over_the_maximum_wait_in_the_queue_and_are_served_in_turn() {
    on_each_engine(&["--workers", "1", "--max-connections", "4"], |server| {
        let mut served: Vec<TcpStream> = (0..4).map(|_| connect(server.addr())).collect();
        served.iter_mut().for_each(|stream| round_trip(stream, b"one of four"));
        let mut waiting: Vec<TcpStream> = (0..3).map(|_| connect(server.addr())).collect();
        for stream in &mut waiting {
            stream.write_all(b"queued").expect("the kernel takes it");
            stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
            let early = stream.read(&mut [0; 6]).expect_err("nobody has accepted");
            assert_eq!(early.kind(), ErrorKind::WouldBlock);
        }
        for mut stream in waiting {
            drop(served.pop());
            stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
            let mut echo = [0; 6];
            stream.read_exact(&mut echo).expect("served once there is room");
            assert_eq!(&echo, b"queued");
        }
    });
}

#[test]
fn the_maximum_is_reached_and_released_again_and_again() {
    on_each_engine(&["--workers", "1", "--max-connections", "2"], |server| {
        for _ in 0..500 {
            let mut both = [connect(server.addr()), connect(server.addr())];
            both.iter_mut().for_each(|stream| round_trip(stream, b"x"));
        }
    });
}

#[test]
fn a_peer_over_its_share_is_closed_and_the_rest_served() {
    on_each_engine(&["--workers", "1", "--max-per-ip", "2"], |server| {
        let mut two: Vec<TcpStream> = (0..2).map(|_| connect(server.addr())).collect();
        two.iter_mut().for_each(|stream| round_trip(stream, b"within"));
        let mut third = connect(server.addr());
        assert!(!matches!(third.read(&mut [0; 1]), Ok(1..)), "nothing is echoed to it");
        two.iter_mut().for_each(|stream| round_trip(stream, b"still"));
    });
}

#[test]
fn a_full_server_says_so_once_and_when_it_is_no_longer() {
    let full = "full: more connections wait in the queue (--max-connections, ulimit -n)";
    for engine in ENGINES {
        let args = ["--workers", "1", "--max-connections", "2"];
        let Some(server) = Server::start(engine, &args) else { return };
        for _ in 0..20 {
            let mut both = [connect(server.addr()), connect(server.addr())];
            both.iter_mut().for_each(|stream| round_trip(stream, b"full"));
            // Counters of tokio-uring are looked at every 10 ms.
            thread::sleep(Duration::from_millis(30));
        }
        assert_eq!(server.wait_for_log(full).expect("told")["connections"], 2);
        server.wait_for_log("no longer full").expect("told");
        server.signal(Signal::TERM);
        server.wait_for_log("stopped").expect("a summary");
        assert_eq!(server.count_seen(full), 1);
        assert!(server.wait().success());
    }
}

#[test]
fn the_addresses_of_an_ipv6_network_are_one_peer() {
    let args = ["--workers", "1", "--max-per-ip", "1", "--ipv6-prefix", "127"];
    on_each_engine(&[&args[..], &["--listen", "[::1]:0"]].concat(), |server| {
        assert_eq!(server.fields("listening")["families"], "IPv6 only");
        let mut first = connect(server.addr());
        round_trip(&mut first, b"the only one");
        let mut second = connect(server.addr());
        assert!(!matches!(second.read(&mut [0; 1]), Ok(1..)), "nothing is echoed to it");
    });
}

/// Every client writes while the server is stopped: when it continues, more completions are due at
/// once than a ring of this size (256) holds.
#[test]
fn more_completions_at_once_than_a_ring_holds() {
    on_each_engine(&["--workers", "1", "--max-connections", "600"], |server| {
        let mut clients: Vec<TcpStream> = (0..600).map(|_| connect(server.addr())).collect();
        clients.iter_mut().for_each(|stream| round_trip(stream, b"accepted"));
        for _ in 0..3 {
            server.pause();
            for (index, stream) in clients.iter_mut().enumerate() {
                stream.write_all(&pattern(index as u64, 500)).expect("the kernel takes it");
            }
            server.resume();
            for (index, stream) in clients.iter_mut().enumerate() {
                let mut echo = [0; 500];
                stream.read_exact(&mut echo).expect("echoed");
                assert_eq!(echo.as_slice(), pattern(index as u64, 500));
            }
        }
    });
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    on_each_engine(&["--workers", "1", "--idle-timeout", "400ms"], |server| {
        let mut idle = connect(server.addr());
        let mut busy = connect(server.addr());
        round_trip(&mut idle, b"last words");
        for _ in 0..20 {
            round_trip(&mut busy, b"still here");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!matches!(idle.read(&mut [0; 1]), Ok(1..)), "closed, with or without a reset");
    });
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    on_each_engine(&["--workers", "1", "--write-timeout", "300ms"], |server| {
        let stream = connect(server.addr());
        stream.set_write_timeout(Some(TIMEOUT)).expect("a socket");
        let chunk = [0; 64 << 10];
        let cut_off = std::iter::repeat_with(|| (&stream).write_all(&chunk)).take(10_000);
        assert!(cut_off.into_iter().any(|sent| sent.is_err()), "640 MB without a reader");
        round_trip(&mut connect(server.addr()), b"others are served");
    });
}

/// It reads a little all the time, which the server has to notice however much the kernel buffers.
#[test]
fn the_write_timeout_spares_a_peer_that_reads_slowly() {
    const TIMES: u32 = 200;
    let read_slowly = |mut stream: TcpStream| {
        stream.set_nonblocking(true).expect("a socket");
        let flood = pattern(7, 1 << 20);
        let mut sip = [0; 8 << 10];
        for _ in 0..TIMES {
            match stream.write(&flood) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "cut off: {error}"),
            }
            match stream.read(&mut sip) {
                Ok(len) => assert_ne!(len, 0, "cut off"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "cut off: {error}"),
            }
            thread::sleep(Duration::from_millis(40));
        }
    };
    let args = ["--workers", "1", "--write-timeout", "2s", "--drain-timeout", "1s"];
    let servers: Vec<_> = ENGINES.iter().filter_map(|name| Server::start(name, &args)).collect();
    thread::scope(|scope| {
        for addr in servers.iter().map(Server::addr) {
            scope.spawn(move || read_slowly(connect(addr)));
        }
    });
}
