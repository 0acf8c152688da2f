//! The ring on real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::*;

mod outgoing;

const SMALL: Setup = Setup {
    submissions: 8,
    completions: 64,
    buffers: 4,
    buffer_size: 4096,
    direct: 8,
    staging: 64,
    listeners: 1,
    peers: true,
    napi: None,
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

fn listener() -> (Arc<OwnedFd>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("bound");
    (Arc::new(listener.into()), addr)
}

/// Waits for an accept; the socket that it brought.
fn accepted(ring: &mut Ring) -> Handle<'static> {
    let slot = next(ring, Op::Accept).result.expect("accepted");
    Handle::Direct(ring.direct(slot))
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
    let (listener, addr) = listener();
    let mut client = TcpStream::connect(addr).expect("queued");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
    assert_eq!(ring.accepted_peer(0), client.local_addr().ok());
    ring.receive_some(socket, 1, Token::new(Op::Recv, 7, 1));
    client.write_all(b"completion").expect("sent");
    let received = next(&mut ring, Op::Recv);
    let (buffer, len) = (received.buffer.expect("a buffer"), received.result.expect("bytes"));
    assert_eq!(ring.bytes(buffer, len), b"completion");
    assert_eq!((received.token.index(), received.token.generation()), (7, 1));
    let halves = [Piece { buffer, offset: 0, len: 4 }, Piece { buffer, offset: 4, len: len - 4 }];
    ring.send_pieces(socket, &halves, Token::new(Op::Send, 7, 1));
    assert_eq!(next(&mut ring, Op::Send).result, Ok(len));
    ring.release(buffer);
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).expect("echoed");
    assert_eq!(&echoed, b"completion");
    ring.cancel(Token::new(Op::Recv, 7, 1), Token::new(Op::Cancel, 7, 1));
    assert_eq!(next(&mut ring, Op::Recv).result, Err(Errno::CANCELED));
    let Handle::Direct(direct) = socket else { unreachable!("accepts are direct") };
    ring.close_direct(direct, Token::new(Op::Close, 7, 1));
    assert_eq!(next(&mut ring, Op::Close).result, Ok(0));
    assert_eq!(client.read(&mut echoed).expect("an orderly end"), 0);
    ring.receive_some(socket, 1, Token::new(Op::Recv, 7, 1));
    assert_eq!(next(&mut ring, Op::Recv).result, Err(Errno::BADF), "closed is closed");
    ring.close_direct(direct, Token::new(Op::Close, 7, 1));
    next(&mut ring, Op::Close).result.expect_err("closed is closed");
}

/// A peer that answers each message: the answer is there with the completion of the send, and where
/// no answer comes the completion does.
#[test]
fn a_wait_behind_a_send_is_for_the_answer_but_not_without_end() {
    let Some(mut ring) = ring() else { return };
    let (listener, addr) = listener();
    let mut client = TcpStream::connect(addr).expect("queued");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
    let send = |ring: &mut Ring| {
        ring.stage(0, b"ping");
        ring.try_send_staged(socket, 0, 4, Token::new(Op::Send, 1, 0));
    };
    for _ in 0..40 {
        send(&mut ring);
        assert_eq!(next(&mut ring, Op::Send).result, Ok(4), "and nobody says anything");
    }
    let mut message = [0; 160];
    client.read_exact(&mut message).expect("forty messages");
    let answering = std::thread::spawn(move || {
        let mut message = [0; 4];
        while client.read_exact(&mut message).is_ok() && message != *b"stop" {
            client.write_all(&message).expect("answered");
        }
    });
    for _ in 0..1000 {
        ring.receive_one(socket, Token::new(Op::Recv, 1, 0));
        send(&mut ring);
        let received = next(&mut ring, Op::Recv);
        let buffer = received.buffer.expect("a buffer");
        assert_eq!(ring.bytes(buffer, received.result.expect("bytes")), b"ping");
        ring.release(buffer);
    }
    ring.stage(0, b"stop");
    ring.try_send_staged(socket, 0, 4, Token::new(Op::Send, 1, 0));
    assert_eq!(next(&mut ring, Op::Send).result, Ok(4));
    answering.join().expect("every message was answered");
}

#[test]
fn a_descriptor_lives_until_its_entry_is_consumed() {
    let Some(mut ring) = ring() else { return };
    let (mut client, server) = {
        let (listener, addr) = listener();
        let client = TcpStream::connect(addr).expect("queued");
        let listener = TcpListener::from(listener.try_clone().expect("a second descriptor"));
        (client, listener.accept().expect("queued").0)
    };
    let socket = Arc::new(OwnedFd::from(server));
    let watch = Arc::downgrade(&socket);
    ring.receive_one(Handle::File(&socket), Token::new(Op::Recv, 0, 0));
    drop(socket);
    assert!(watch.upgrade().is_some(), "its number may not name another file yet");
    ring.submit().expect("a working ring");
    assert!(watch.upgrade().is_none(), "the operation has a reference of its own");
    client.write_all(b"late").expect("sent");
    assert_eq!(next(&mut ring, Op::Recv).result, Ok(4));
}

#[test]
fn peers_are_found_in_the_order_they_were_asked_for() {
    let Some(mut ring) = ring() else { return };
    if !ring.features().peers {
        assert!(ring.degraded().iter().any(|line| line.contains("Linux 6.8")));
        return;
    }
    let (listener, addr) = listener();
    ring.accept_many(&listener, Token::new(Op::Accept, 0, 0));
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).expect("queued")).collect();
    let slots: Vec<_> = clients.iter().map(|_| next(&mut ring, Op::Accept).result).collect();
    for slot in slots {
        let slot = slot.expect("accepted");
        ring.look_up_peer(ring.direct(slot), Token::new(Op::Peer, slot, 0));
    }
    for client in &clients {
        next(&mut ring, Op::Peer).result.expect("a descriptor");
        assert_eq!(ring.found_peer(), Some(Ok(client.local_addr().expect("bound"))));
    }
    assert_eq!(ring.found_peer(), None);
    ring.look_up_peer(ring.direct(7), Token::new(Op::Peer, 7, 0));
    assert_eq!(next(&mut ring, Op::Peer).result, Err(Errno::BADF));
    assert_eq!(ring.found_peer(), Some(Err(Errno::BADF)));
}

#[test]
#[should_panic(expected = "two accepts on listener 0")]
fn a_listener_has_one_accept_armed() {
    let Some(mut ring) = ring() else { panic!("two accepts on listener 0: skipped") };
    let (listener, _) = listener();
    ring.accept_many(&listener, Token::new(Op::Accept, 0, 0));
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
}

#[test]
fn an_argument_is_not_overwritten_while_its_entry_waits() {
    let Ok(mut ring) = Ring::new(&Setup { restricted: false, ..SMALL }) else { return };
    let ((first, first_addr), (_second, second_addr)) = (listener(), listener());
    // Nothing is submitted while there is a fault, so the queue stays full.
    ring.fault = Some(RingError::QueueStuck);
    let sockets: Vec<_> = (0..=SMALL.submissions)
        .map(|_| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None))
        .map(|socket| Arc::new(OwnedFd::from(socket.expect("a socket"))))
        .collect();
    for (index, socket) in (0..).zip(&sockets) {
        let addr = if index < SMALL.submissions { first_addr } else { second_addr };
        ring.connect(Handle::File(socket), addr, Token::new(Op::Connect, index, 0));
    }
    ring.wait(None).expect_err("the fault is reported");
    ring.broken = false;
    for _ in 0..SMALL.submissions {
        next(&mut ring, Op::Connect).result.expect("connected");
    }
    let first = TcpListener::from(first.try_clone().expect("a second descriptor"));
    first.set_nonblocking(true).expect("set");
    let arrived = std::iter::from_fn(|| first.accept().ok()).count();
    assert_eq!(arrived, SMALL.submissions as usize, "each went where it was to go");
}

#[test]
fn a_ring_that_cannot_be_made_frees_its_memory() {
    const POOL: u64 = 1 << 28;
    let setup = Setup { buffers: 1 << 12, buffer_size: 1 << 16, direct: u32::MAX >> 8, ..SMALL };
    let mapped = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
        let line = status.lines().find(|line| line.starts_with("VmSize:")).expect("a size");
        let kib = line.split_whitespace().nth(1).expect("a number");
        kib.parse::<u64>().expect("a number") << 10
    };
    let before = mapped();
    for _ in 0..16 {
        Ring::new(&setup).expect_err("a table larger than RLIMIT_NOFILE");
    }
    assert!(mapped() < before + 4 * POOL, "{before} bytes mapped before, {} after", mapped());
}

#[test]
fn more_submissions_than_slots_are_all_carried_out() {
    let Some(mut ring) = ring() else { return };
    let (listener, addr) = listener();
    for index in 0..40 {
        ring.cancel(Token::new(Op::Accept, index, 0), Token::new(Op::Cancel, index, 0));
    }
    ring.accept_many(&listener, Token::new(Op::Accept, 0, 0));
    let _client = TcpStream::connect(addr).expect("queued");
    assert!(next(&mut ring, Op::Accept).more);
}

#[test]
fn a_restricted_ring_connects_nowhere() {
    let Some(mut ring) = ring() else { return };
    let (_listener, addr) = listener();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = Arc::new(OwnedFd::from(socket.expect("a socket")));
    ring.connect(Handle::File(&socket), addr, Token::new(Op::Connect, 0, 0));
    assert_eq!(next(&mut ring, Op::Connect).result, Err(Errno::ACCESS));
}

#[test]
fn dropping_a_ring_joins_what_is_in_flight() {
    let (listener, addr) = listener();
    for _ in 0..20 {
        let Some(mut ring) = ring() else { return };
        let _client = TcpStream::connect(addr).expect("queued");
        ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
        let socket = accepted(&mut ring);
        ring.receive_some(socket, 1, Token::new(Op::Recv, 0, 0));
        ring.submit().expect("a working ring");
        assert!(ring.join_in_flight(), "something stayed in flight");
    }
}

#[test]
#[should_panic(expected = "released twice")]
fn a_buffer_is_released_once() {
    let mut pool = pool::Pool::new(2, 4096);
    pool.provide();
    pool.take(1, 1);
    pool.release(1);
    pool.release(1);
}

#[test]
fn many_receives_find_a_buffer_each_although_few_are_provided() {
    const RECEIVES: u16 = 48;
    let setup = Setup { buffers: RECEIVES, direct: u32::from(RECEIVES), ..SMALL };
    let Ok(mut ring) = Ring::new(&setup) else { return };
    let (listener, addr) = listener();
    let mut clients = Vec::new();
    for index in 0..u32::from(RECEIVES) {
        clients.push(TcpStream::connect(addr).expect("queued"));
        ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
        let socket = accepted(&mut ring);
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
                    let socket = Handle::Direct(ring.direct(done.token.index()));
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
    let taken = listener.local_addr().expect("bound");
    TcpStream::connect(taken).expect("a listening socket");
    let second = ring.call_socket(taken).expect("socket");
    let error = ring.call_bind(second.as_fd(), taken).expect_err("the port is in use");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// Bytes that tell their place in the stream.
fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at / 7 % 251).expect("below 251")).collect()
}

#[test]
fn a_receive_fills_several_buffers_at_once_and_no_more_than_it_was_armed_for() {
    let setup = Setup { buffers: 8, ..SMALL };
    let Ok(mut ring) = Ring::new(&setup) else { return };
    let (listener, addr) = listener();
    let mut client = TcpStream::connect(addr).expect("queued");
    let sent = stream(10 * setup.buffer_size as usize);
    client.write_all(&sent).expect("the kernel takes it");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
    let (mut got, mut batch) = (Vec::new(), Vec::with_capacity(32));
    for armed_for in [4, 3, 3] {
        ring.receive_some(socket, armed_for, Token::new(Op::Recv, 0, 0));
        let end = got.len() + usize::from(armed_for) * setup.buffer_size as usize;
        while got.len() < end {
            ring.wait(Some(Duration::from_secs(10))).expect("a working ring");
            ring.reap(&mut batch);
            for (nth, done) in batch.iter().enumerate() {
                let (buffer, len) = (done.buffer.expect("bytes"), done.result.expect("bytes"));
                let next = batch.get(nth + 1);
                assert!(!done.continues || next.is_some_and(|next| next.token == done.token));
                got.extend_from_slice(ring.bytes(buffer, len));
                ring.release(buffer);
                assert_eq!(done.more, got.len() < end, "its limit ends the receive");
            }
        }
        assert_eq!(got.len(), end, "armed for {armed_for} buffers");
    }
    assert!(got == sent, "bytes are mixed up");
}

#[test]
fn a_flood_fills_one_buffer_and_ends_the_receive() {
    let Some(mut ring) = ring() else { return };
    let (listener, addr) = listener();
    let mut client = TcpStream::connect(addr).expect("queued");
    client.write_all(&[7; 64 << 10]).expect("the kernel takes it");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
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

#[test]
fn a_full_socket_says_so_and_how_much_is_unsent() {
    let Some(mut ring) = ring() else { return };
    let (listener, addr) = listener();
    let mut client = TcpStream::connect(addr).expect("queued");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
    client.write_all(&[7; 4096]).expect("sent");
    ring.receive_some(socket, 1, Token::new(Op::Recv, 0, 0));
    let received = next(&mut ring, Op::Recv);
    let buffer = received.buffer.expect("a buffer");
    ring.watch_writable(socket, Token::new(Op::Writable, 0, 0));
    next(&mut ring, Op::Writable).result.expect("room at once");
    let mut sent = 0;
    let piece = Piece { buffer, offset: 0, len: 4096 };
    let end = loop {
        ring.send_pieces(socket, &[piece], Token::new(Op::Send, 0, 0));
        match next(&mut ring, Op::Send).result {
            Ok(len) => sent += len,
            Err(errno) => break errno,
        }
    };
    assert_eq!(end, Errno::AGAIN, "a send does not wait");
    ring.ask_unsent(socket, Token::new(Op::Unsent, 0, 0));
    let answer = next(&mut ring, Op::Unsent).result;
    if answer == Err(Errno::OPNOTSUPP) {
        eprintln!("SKIPPED, this kernel does not say what is unsent (Linux 6.7)");
        return;
    }
    let unsent = answer.expect("a number");
    assert!(unsent > 0 && unsent < sent, "{unsent} of {sent}");
    ring.watch_writable(socket, Token::new(Op::Writable, 0, 0));
    let mut echoed = vec![0; sent as usize];
    client.read_exact(&mut echoed).expect("all of it");
    next(&mut ring, Op::Writable).result.expect("room again");
    ring.ask_unsent(socket, Token::new(Op::Unsent, 0, 0));
    assert_eq!(next(&mut ring, Op::Unsent).result, Ok(0));
    ring.release(buffer);
}

/// Only a card has something to poll, but the kernel tells what it was told.
#[test]
fn the_kernel_polls_for_as_long_as_it_was_told() {
    let micros = std::num::NonZeroU32::new(50);
    let told = |restricted| match Ring::new(&Setup { napi: micros, restricted, ..SMALL }) {
        Ok(ring) => Some(ring),
        Err(error @ RingError::Napi { .. }) => {
            assert!(error.to_string().contains("Linux 6.9"), "{error}");
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(_) => ring(),
    };
    let Some(ring) = told(false) else { return };
    let mut napi = io_uring::types::Napi::new();
    ring.queues.submitter().unregister_napi(&mut napi).expect("registered");
    assert_eq!((napi.busy_poll_timeout(), napi.prefer_busy_poll()), (50, false));
    assert!(told(true).is_some(), "before it is restricted");
}

#[test]
fn many_sends_do_not_wait_for_the_last_of_them() {
    let setup = Setup { submissions: 64, ..SMALL };
    let Some(_) = ring() else { return };
    let mut ring = Ring::new(&setup).expect("as the small one");
    let (listener, addr) = listener();
    rustix::net::sockopt::set_tcp_nodelay(&*listener, true).expect("a socket");
    let mut client = TcpStream::connect(addr).expect("queued");
    client.set_nonblocking(true).expect("a socket");
    ring.accept_one(&listener, Token::new(Op::Accept, 0, 0));
    let socket = accepted(&mut ring);
    ring.stage(0, b"x");
    let arrived = |client: &mut TcpStream| client.read(&mut [0; 64]).ok();
    for _ in 0..SENDS_PER_CALL {
        ring.try_send_staged(socket, 0, 1, Token::new(Op::Send, 0, 0));
    }
    assert_eq!(arrived(&mut client), None, "nothing was submitted");
    ring.try_send_staged(socket, 0, 1, Token::new(Op::Send, 0, 0));
    assert_eq!(arrived(&mut client), Some(SENDS_PER_CALL as usize));
    ring.submit().expect("a working ring");
    assert_eq!(arrived(&mut client), Some(1));
}
