//! The ring on real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

const SMALL: Setup = Setup {
    submissions: 8,
    completions: 64,
    buffers: 4,
    buffer_size: 4096,
    direct: 8,
    staging: 64,
    listeners: 1,
    restricted: true,
};

fn ring() -> Option<Ring> {
    match Ring::new(&SMALL) {
        Ok(ring) => Some(ring),
        Err(error) if std::env::var_os("REQUIRE_URING").is_none() => {
            eprintln!("SKIPPED, io_uring is not available: {error}");
            None
        }
        Err(error) => panic!("REQUIRE_URING is set: {error}"),
    }
}

/// Waits for the next completion of `op`.
fn next(ring: &mut Ring, op: Op) -> Completion {
    let mut batch = Vec::with_capacity(1);
    loop {
        ring.wait(Some(Duration::from_secs(10))).expect("a working ring");
        ring.reap(&mut batch);
        if let Some(completion) = batch.iter().find(|done| done.token.op() == op) {
            return *completion;
        }
    }
}

#[test]
fn a_connection_is_accepted_echoed_and_closed() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("queued");
    ring.accept_one(listener.as_fd(), 0, Token::new(Op::Accept, 0, 0));
    let socket = next(&mut ring, Op::Accept).result.expect("accepted");
    assert_eq!(ring.accepted_peer(0), client.local_addr().ok());
    ring.receive_some(Handle::Direct(socket), 1, Token::new(Op::Recv, 7, 1));
    client.write_all(b"completion").expect("sent");
    let received = next(&mut ring, Op::Recv);
    let (buffer, len) = (received.buffer.expect("a buffer"), received.result.expect("bytes"));
    assert_eq!(ring.bytes(buffer, len), b"completion");
    assert_eq!((received.token.index(), received.token.generation()), (7, 1));
    let halves = [Piece { buffer, offset: 0, len: 4 }, Piece { buffer, offset: 4, len: len - 4 }];
    ring.send_pieces(Handle::Direct(socket), &halves, Token::new(Op::Send, 7, 1));
    assert_eq!(next(&mut ring, Op::Send).result, Ok(len));
    ring.release(buffer);
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).expect("echoed");
    assert_eq!(&echoed, b"completion");
    ring.cancel_all(Handle::Direct(socket), Token::new(Op::Cancel, 7, 1));
    assert_eq!(next(&mut ring, Op::Recv).result, Err(Errno::CANCELED));
    ring.close_direct(socket, Token::new(Op::Close, 7, 1));
    assert_eq!(next(&mut ring, Op::Close).result, Ok(0));
    assert_eq!(client.read(&mut echoed).expect("an orderly end"), 0);
}

#[test]
fn more_submissions_than_slots_are_all_carried_out() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    for index in 0..40 {
        ring.cancel(Token::new(Op::Accept, index, 0), Token::new(Op::Cancel, index, 0));
    }
    ring.accept_many(listener.as_fd(), Token::new(Op::Accept, 0, 0));
    let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("queued");
    assert!(next(&mut ring, Op::Accept).more);
}

#[test]
fn a_restricted_ring_connects_nowhere() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("bound");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    ring.connect(socket.as_fd(), addr, Token::new(Op::Connect, 0, 0));
    assert_eq!(next(&mut ring, Op::Connect).result, Err(Errno::ACCESS));
}

#[test]
fn dropping_a_ring_joins_what_is_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("bound");
    for _ in 0..20 {
        let Some(mut ring) = ring() else { return };
        let _client = TcpStream::connect(addr).expect("queued");
        ring.accept_one(listener.as_fd(), 0, Token::new(Op::Accept, 0, 0));
        let socket = next(&mut ring, Op::Accept).result.expect("accepted");
        ring.receive_some(Handle::Direct(socket), 1, Token::new(Op::Recv, 0, 0));
        ring.submit().expect("a working ring");
        assert!(ring.join_in_flight(), "something stayed in flight");
    }
}

#[test]
#[should_panic(expected = "released twice")]
fn a_buffer_is_released_once() {
    let mut pool = Pool::new(2, 4096);
    pool.provide();
    pool.take(1);
    pool.release(1);
    pool.release(1);
}

#[test]
fn many_receives_find_a_buffer_each_although_few_are_provided() {
    const RECEIVES: u16 = 48;
    let setup = Setup { buffers: RECEIVES, direct: u32::from(RECEIVES), ..SMALL };
    let Ok(mut ring) = Ring::new(&setup) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut clients = Vec::new();
    for index in 0..u32::from(RECEIVES) {
        clients.push(TcpStream::connect(listener.local_addr().expect("bound")).expect("queued"));
        ring.accept_one(listener.as_fd(), 0, Token::new(Op::Accept, 0, 0));
        let socket = Handle::Direct(next(&mut ring, Op::Accept).result.expect("accepted"));
        ring.receive_one(socket, Token::new(Op::Recv, index, 0));
    }
    ring.submit().expect("a working ring");
    clients.iter_mut().for_each(|client| client.write_all(b"here").expect("sent"));
    let mut received = 0;
    let mut batch = Vec::with_capacity(64);
    while received < RECEIVES {
        ring.wait(Some(Duration::from_secs(10))).expect("a working ring");
        ring.reap(&mut batch);
        for done in batch.iter().filter(|done| done.token.op() == Op::Recv) {
            match done.result {
                Ok(_) => received += 1,
                Err(errno) => {
                    assert!(errno == Errno::NOBUFS && !ring.is_out_of_buffers(), "{errno}");
                    let socket = Handle::Direct(done.token.index());
                    ring.receive_one(socket, done.token);
                }
            }
        }
    }
    assert!(ring.is_out_of_buffers(), "all are held");
}

#[test]
fn listeners_are_made_by_completions() {
    let Ok(mut ring) = Ring::new(&Setup::CALLS) else { return };
    if !(ring.features().socket && ring.features().bind_listen) {
        eprintln!("SKIPPED, this kernel has no BIND and LISTEN operations");
        return;
    }
    let addr = "127.0.0.1:0".parse().expect("an address");
    let socket = ring.call_socket(addr).expect("socket");
    ring.call_bind(socket.as_fd(), addr).expect("bind");
    ring.call_listen(socket.as_fd(), 16).expect("listen");
    let listener = TcpListener::from(socket);
    TcpStream::connect(listener.local_addr().expect("bound")).expect("a listening socket");
    let taken = listener.local_addr().expect("bound");
    let second = ring.call_socket(taken).expect("socket");
    let error = ring.call_bind(second.as_fd(), taken).expect_err("the port is in use");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_flood_fills_one_buffer_and_ends_the_receive() {
    let Some(mut ring) = ring() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("queued");
    client.write_all(&[7; 64 << 10]).expect("the kernel takes it");
    ring.accept_one(listener.as_fd(), 0, Token::new(Op::Accept, 0, 0));
    let socket = Handle::Direct(next(&mut ring, Op::Accept).result.expect("accepted"));
    ring.receive_some(socket, 1, Token::new(Op::Recv, 0, 0));
    let first = next(&mut ring, Op::Recv);
    assert_eq!(first.result, Ok(SMALL.buffer_size));
    let mut batch = Vec::with_capacity(8);
    if first.more {
        ring.wait(Some(Duration::from_millis(50))).expect("a working ring");
        ring.reap(&mut batch);
    }
    let buffers = batch.iter().filter(|done| done.buffer.is_some()).count();
    assert_eq!(buffers, 0, "one buffer was filled, no second one: {batch:?}");
    assert!(!first.more || !batch[0].more, "the receive has ended");
}
