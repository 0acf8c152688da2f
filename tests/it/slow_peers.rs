//! Peers that read slowly, beside others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::{Server, connect, on_each_engine, pattern, round_trip};

/// Far more peers than the pool has buffers take what they are sent only until their windows are
/// full: they keep no buffer from whoever asks for an echo, and are not cut off either.
#[test]
fn a_pool_far_too_small_is_not_used_up() {
    let args = ["--workers", "1", "--pool", "64k", "--credit", "16k", "--write-timeout", "60s"];
    for engine in ["uring", "epoll"] {
        let Some(server) = Server::start(engine, &args) else { return };
        let flood = pattern(5, 16 << 20);
        let mut bystander = connect(server.addr());
        let stalled: Vec<TcpStream> = (0..24).map(|_| connect(server.addr())).collect();
        for stream in &stalled {
            stall(stream, &flood, 4 << 10);
            round_trip(&mut bystander, b"served all the same");
        }
        assert!(!stalled.iter().any(is_lost), "{engine}: cut off");
    }
}

/// Writes until the socket takes no more for a while.
fn stall(mut stream: &TcpStream, flood: &[u8], receive_buffer: usize) {
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(receive_buffer).expect("a socket");
    socket.set_send_buffer_size(64 << 10).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_millis(50) {
        match stream.write(flood) {
            Ok(taken) if taken > 0 => quiet_since = Instant::now(),
            Ok(_) => return,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "cut off: {error}");
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn is_cut_off(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn is_lost(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).is_err_and(|error| is_cut_off(error.kind()))
}

/// Who takes 4 KiB and more per write timeout is not cut off, although its socket never becomes
/// writable meanwhile; who takes nothing is.
#[test]
fn what_the_peer_took_decides_not_what_the_socket_took() {
    let args = ["--workers", "1", "--write-timeout", "4s"];
    let servers = ["uring", "epoll"].map(|engine| Server::start(engine, &args));
    thread::scope(|scope| {
        for server in servers.into_iter().flatten() {
            scope.spawn(move || takes_little_or_nothing(&server));
        }
    });
}

fn takes_little_or_nothing(server: &Server) {
    let (mut reads, does_not) = (connect(server.addr()), connect(server.addr()));
    let flood = pattern(9, 16 << 20);
    [&reads, &does_not].into_iter().for_each(|stream| stall(stream, &flood, 8 << 10));
    let mut taken = 0;
    let mut sip = [0; 2 << 10];
    // 14 kB/s: within a write timeout less than the socket needs to become writable.
    for _ in 0..40 {
        match reads.read(&mut sip) {
            Ok(len) => taken += len,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{taken}: {error}"),
        }
        thread::sleep(Duration::from_millis(150));
    }
    assert!(taken > 0 && !is_lost(&reads), "it took {taken} bytes");
    let said = "cut off: they took less than --min-drain of what is theirs within --write-timeout";
    let peers = server.wait_for_log(said).expect("it is said")["peers"].clone();
    assert_eq!(peers, 1);
    assert!(is_lost_after_reading(&does_not), "it took nothing");
}

fn is_lost_after_reading(mut stream: &TcpStream) -> bool {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return is_cut_off(error.kind()),
        }
    }
}

/// Many that read slowly: nobody is cut off, each gets every byte, and the pool is not used up.
#[test]
fn many_slow_readers_are_served_beside_others() {
    on_each_engine(&["--workers", "1", "--write-timeout", "30s"], |server| {
        let flood = pattern(3, 4 << 20);
        let slow: Vec<TcpStream> = (0..200).map(|_| connect(server.addr())).collect();
        for stream in &slow {
            let socket = SockRef::from(stream);
            socket.set_recv_buffer_size(16 << 10).expect("a socket");
            socket.set_send_buffer_size(16 << 10).expect("a socket");
            stream.set_nonblocking(true).expect("a socket");
        }
        let mut at = vec![(0, 0); slow.len()];
        let mut bystander = connect(server.addr());
        for _ in 0..10 {
            for (stream, (sent, read)) in slow.iter().zip(&mut at) {
                push(stream, &flood, sent);
                sip_some(stream, &flood, read);
            }
            round_trip(&mut bystander, b"undisturbed");
        }
    });
}

fn push(mut stream: &TcpStream, flood: &[u8], sent: &mut usize) {
    loop {
        match stream.write(&flood[*sent..]) {
            Ok(len) if len > 0 => *sent += len,
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("cut off after {sent} bytes: {error}"),
        }
    }
}

fn sip_some(mut stream: &TcpStream, flood: &[u8], read: &mut usize) {
    let mut sip = [0; 4 << 10];
    match stream.read(&mut sip) {
        Ok(len) => {
            assert!(len > 0 && sip[..len] == flood[*read..][..len], "after {read} bytes");
            *read += len;
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "after {read} bytes"),
    }
}
