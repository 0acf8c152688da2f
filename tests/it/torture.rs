//! Resets, floods and signals while connections are in use.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, SockRef, Socket, Type};
use uring_echo::sys::descriptors;

use crate::support::{
    ENGINES, Server, TIMEOUT, connect, on_each_engine, pattern, push_until_full, round_trip,
    send_all_then_read_all,
};

/// How often a reset is tried in each phase.
const RESETS: usize = 200;

pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
}

/// An established connection and a new one are both served.
fn assert_others_are_served(server: &Server, bystander: &mut TcpStream) {
    round_trip(bystander, &pattern(1, 5000));
    round_trip(&mut connect(server.addr()), &pattern(2, 5000));
}

#[test]
fn resets_before_the_accept_is_handled() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut bystander = connect(server.addr());
        round_trip(&mut bystander, b"here first");
        for write in [false, true] {
            server.pause();
            for _ in 0..RESETS {
                let mut stream = connect(server.addr());
                if write {
                    stream.write_all(b"never to be read").expect("the kernel takes it");
                }
                reset(stream);
            }
            server.resume();
            assert_others_are_served(server, &mut bystander);
        }
    });
}

#[test]
fn resets_while_data_is_owed() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut bystander = connect(server.addr());
        for round in 0..RESETS {
            let mut stream = connect(server.addr());
            stream.write_all(&pattern(3, 50 * round + 1)).expect("the kernel takes it");
            reset(stream);
        }
        assert_others_are_served(server, &mut bystander);
    });
}

#[test]
fn resets_during_a_stalled_send() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut bystander = connect(server.addr());
        let flood = pattern(5, 16 << 20);
        let stalled: Vec<TcpStream> = (0..RESETS / 4).map(|_| connect(server.addr())).collect();
        for stream in &stalled {
            stall(stream, &flood);
        }
        assert_others_are_served(server, &mut bystander);
        stalled.into_iter().for_each(reset);
        assert_others_are_served(server, &mut bystander);
    });
}

/// Writes until the socket takes no more, even after a pause: then the server cannot send and has
/// stopped receiving. Small buffers at this end bound what the kernel has to hold.
pub(crate) fn stall(stream: &TcpStream, bytes: &[u8]) {
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(4 << 10).expect("a socket");
    socket.set_send_buffer_size(64 << 10).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    while push_until_full(stream, bytes) > 0 {
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn resets_after_the_half_close() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut bystander = connect(server.addr());
        let flood = pattern(7, 16 << 20);
        for round in 0..RESETS {
            let mut stream = connect(server.addr());
            match round % 4 {
                0 => stall(&stream, &flood),
                1 => stream.write_all(&flood[..round * 20]).expect("the kernel takes it"),
                2 => round_trip(&mut stream, &flood[..round]),
                _ => {}
            }
            stream.shutdown(Shutdown::Write).expect("half-closed");
            reset(stream);
        }
        assert_others_are_served(server, &mut bystander);
    });
}

/// Connections started at once; what the process may open is shared with the other tests.
const WAVE: usize = 2500;

#[test]
fn twenty_thousand_connects_over_a_backlog_of_128_are_all_served() {
    let limit = descriptors::raise_limit().unwrap_or_else(|_| descriptors::limit());
    let wave = WAVE.min(limit.enforced() as usize / 4);
    on_each_engine(&["--workers", "1", "--backlog", "128"], |server| {
        let mut left = 20_000;
        while left > 0 {
            let clients: Vec<Socket> =
                (0..wave.min(left)).map(|n| start_connecting(server.addr(), n)).collect();
            left -= clients.len();
            for (n, client) in clients.into_iter().enumerate() {
                finish(client, n as u64);
            }
        }
    });
}

/// A connect from one of several addresses that was started and not waited for.
fn start_connecting(addr: SocketAddr, n: usize) -> Socket {
    let host = u8::try_from(n % 16).expect("small") + 1;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0));
    socket.bind(&source.into()).expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(115), "EINPROGRESS: {error}"),
    }
    socket
}

/// Waits for the connect by writing (tcp(7): a blocking write does), and for the echo.
fn finish(client: Socket, seed: u64) {
    client.set_nonblocking(false).expect("a socket");
    client.set_write_timeout(Some(TIMEOUT)).expect("a socket");
    client.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    let mut stream = TcpStream::from(client);
    round_trip(&mut stream, &pattern(seed, 100));
    reset(stream);
}

#[test]
fn a_stopped_server_loses_nothing() {
    on_each_engine(&["--workers", "2"], |server| {
        let (addr, over) = (server.addr(), AtomicBool::new(false));
        thread::scope(|scope| {
            let work = |seed| scope.spawn(move || mixed_work(connect(addr), seed));
            let work: Vec<_> = (0..8).map(work).collect();
            let churn = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    round_trip(&mut connect(addr), b"in and out");
                }
            });
            for _ in 0..20 {
                server.pause();
                thread::sleep(Duration::from_millis(10));
                server.resume();
                thread::sleep(Duration::from_millis(10));
            }
            work.into_iter().for_each(|work| work.join().expect("echoed"));
            over.store(true, Ordering::Relaxed);
            churn.join().expect("echoed");
        });
    });
}

/// One of four kinds of client, each of which expects every byte back.
fn mixed_work(mut stream: TcpStream, seed: u64) {
    let bytes = pattern(seed, 8 << 20);
    match seed % 4 {
        0 => assert!(send_all_then_read_all(stream, &bytes) == bytes, "the echo differs"),
        1 => bytes.chunks(64).take(5000).for_each(|message| round_trip(&mut stream, message)),
        2 => bytes.chunks(256 << 10).for_each(|message| round_trip(&mut stream, message)),
        _ => {
            let mut sent = bytes[..3000].iter();
            sent.all(|byte| stream.write_all(&[*byte]).is_ok());
            let mut echo = [0; 3000];
            stream.read_exact(&mut echo).expect("echoed");
            assert!(echo == bytes[..3000], "the echo differs");
        }
    }
}

#[test]
fn told_to_end_in_the_middle_of_it_all_it_finishes_what_it_has() {
    for engine in ENGINES {
        for accept in ["reuseport", "shared"] {
            let args = ["--accept", accept, "--workers", "2", "--drain-timeout", "60s"];
            let Some(server) = Server::start(engine, &args) else { return };
            tell_in_the_middle(&server);
            server.wait_clean_exit();
        }
    }
}

/// A full server has no accept armed, so that no completion starts the draining of the queue.
#[test]
fn told_to_end_while_full_it_takes_who_is_queued_and_ends() {
    for engine in ENGINES {
        for queued in [0, 3] {
            let args = ["--workers", "1", "--max-connections", "2", "--drain-timeout", "60s"];
            let Some(server) = Server::start(engine, &args) else { return };
            let mut open: Vec<TcpStream> = (0..2).map(|_| connect(server.addr())).collect();
            open.iter_mut().for_each(|stream| round_trip(stream, b"full"));
            let waiting: Vec<TcpStream> = (0..queued).map(|_| connect(server.addr())).collect();
            server.signal(Signal::TERM);
            server.wait_for_log("draining; signal again to exit now").expect("a log line");
            open.iter_mut().for_each(|stream| round_trip(stream, b"still full"));
            drop(open);
            waiting.into_iter().for_each(|mut stream| round_trip(&mut stream, b"in its turn"));
            server.wait_clean_exit();
        }
    }
}

fn tell_in_the_middle(server: &Server) {
    let (addr, told) = (server.addr(), AtomicBool::new(false));
    let told = &told;
    thread::scope(|scope| {
        for seed in 0..16 {
            let mut stream = connect(addr);
            round_trip(&mut stream, b"accepted");
            scope.spawn(move || mixed_work(stream, seed));
        }
        for seed in 0..4 {
            scope.spawn(move || churn_until(told, addr));
            scope.spawn(move || vanish_after_half(addr, seed));
        }
        thread::sleep(Duration::from_millis(50));
        told.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
    });
}

/// Connects, echoes and closes until nobody listens any more. Whoever was connected before the
/// server was `told` to end is served; after that a connection may come to nothing, but what is
/// echoed is right.
fn churn_until(told: &AtomicBool, addr: SocketAddr) {
    let bytes = pattern(17, 3000);
    loop {
        let connected = TcpStream::connect_timeout(&addr, TIMEOUT);
        let promised = !told.load(Ordering::SeqCst);
        let outcome = connected.and_then(|mut stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(&bytes)?;
            let mut echo = vec![0; bytes.len()];
            stream.read_exact(&mut echo)?;
            assert!(echo == bytes, "the echo differs");
            Ok(())
        });
        let Err(error) = outcome else { continue };
        assert!(!promised, "connected in time and not served: {error}");
        let timed_out = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!timed_out, "neither served nor refused: {error}");
        return;
    }
}

/// Connects, writes, and resets with half of the echo unread, until nobody listens any more.
fn vanish_after_half(addr: SocketAddr, seed: u64) {
    let bytes = pattern(seed, 20_000);
    while let Ok(mut stream) = TcpStream::connect_timeout(&addr, TIMEOUT) {
        let mut echo = vec![0; bytes.len() / 2];
        if stream.write_all(&bytes).and_then(|()| stream.read_exact(&mut echo)).is_ok() {
            assert!(echo == bytes[..echo.len()], "the echo differs");
        }
        reset(stream);
    }
}
