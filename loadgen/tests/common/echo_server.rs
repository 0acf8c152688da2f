//! An echo server of blocking sockets and threads.

use std::net::{SocketAddr, TcpListener};
use std::thread;

/// An echo server that never closes a connection.
pub(crate) fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("cloned");
                std::io::copy(&mut reader, &mut stream)
            });
        }
    });
    addr
}
