//! Client sockets in the table.

use super::*;

/// A ring that may do what clients do.
fn client_ring() -> Option<Ring> {
    ring()?;
    let ring = Ring::new(&Setup { restricted: false, ..SMALL }).expect("as the other one");
    let Features { socket, bind_listen, .. } = ring.features();
    (socket && bind_listen).then_some(ring)
}

fn opened(ring: &mut Ring, addr: SocketAddr) -> Direct {
    ring.open_direct(addr, Token::new(Op::Socket, 0, 0));
    let slot = next(ring, Op::Socket).result.expect("a socket");
    ring.direct(slot)
}

#[test]
fn a_client_socket_in_the_table_is_bound_connected_and_reset() {
    let Some(mut ring) = client_ring() else { return };
    let (listener, addr) = listener();
    let listener = TcpListener::from(listener.try_clone().expect("a second descriptor"));
    let socket = opened(&mut ring, addr);
    let token = |op| Token::new(op, 3, 0);
    ring.prepare(socket, SocketOption::ResetOnClose, token(Op::Prepare));
    ring.prepare(socket, SocketOption::PortByConnect, token(Op::Prepare));
    ring.bind_direct(socket, "127.0.0.9:0".parse().expect("an address"), token(Op::Prepare));
    ring.connect(Handle::Direct(socket), addr, token(Op::Connect));
    assert_eq!(next(&mut ring, Op::Connect).result, Ok(0));
    let (mut server, peer) = listener.accept().expect("queued");
    assert_eq!(peer.ip().to_string(), "127.0.0.9");
    ring.receive_at_once(Handle::Direct(socket), token(Op::Recv));
    assert_eq!(next(&mut ring, Op::Recv).result, Err(Errno::AGAIN), "it does not wait");
    server.write_all(b"there").expect("sent");
    ring.receive_at_once(Handle::Direct(socket), token(Op::Recv));
    assert_eq!(next(&mut ring, Op::Recv).result, Ok(5));
    ring.close_direct(socket, token(Op::Close));
    assert_eq!(next(&mut ring, Op::Close).result, Ok(0));
    let error = server.read(&mut [0]).expect_err("no orderly end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn of_what_prepares_a_socket_only_a_failure_completes() {
    let Some(mut ring) = client_ring() else { return };
    let addr: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let socket = opened(&mut ring, addr);
    ring.prepare(socket, SocketOption::ResetOnClose, Token::new(Op::Prepare, 1, 0));
    let elsewhere = "192.0.2.1:0".parse().expect("an address");
    ring.bind_direct(socket, elsewhere, Token::new(Op::Prepare, 2, 0));
    let failed = next(&mut ring, Op::Prepare);
    assert_eq!((failed.token.index(), failed.result), (2, Err(Errno::ADDRNOTAVAIL)));
}

#[test]
fn a_full_table_has_no_socket_to_give() {
    let Some(mut ring) = client_ring() else { return };
    let addr: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let all: Vec<Direct> = (0..SMALL.direct).map(|_| opened(&mut ring, addr)).collect();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    ring.open_direct(addr, Token::new(Op::Socket, 0, 0));
    assert_eq!(next(&mut ring, Op::Socket).result, Err(Errno::NFILE));
}
