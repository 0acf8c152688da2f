//! On which ports connections end: the kernel reports each socket that it destroys.

use std::io;

use super::diag::SocketState;
use super::netlink::NetlinkSocket;

/// Receives an entry for each TCP socket of this network namespace that is destroyed, from its
/// creation on. Each costs the process that closes the socket some microseconds, so it is kept
/// open for short windows only.
#[derive(Debug)]
pub struct DestroyedSockets {
    netlink: NetlinkSocket,
}

/// Datagrams taken in one call; the rest waits for the next.
const DATAGRAMS: usize = 512;

impl DestroyedSockets {
    /// Joins the groups of the destroyed. Needs no privilege (linux/sock_diag.h, Linux 4.5).
    ///
    /// # Errors
    /// The error of socket(2) or bind(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: NetlinkSocket::of_destroyed()? })
    }

    /// Passes the local port of each socket destroyed since the last call to `each`.
    ///
    /// # Errors
    /// The error of recv(2); `ENOBUFS` where more were destroyed than the buffer holds.
    pub fn ports(&mut self, mut each: impl FnMut(u16)) -> io::Result<()> {
        self.netlink.received(DATAGRAMS, |data| {
            if let Some(socket) = SocketState::parse(data) {
                each(socket.port);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_ports_of_connections_that_end_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let mut destroyed = DestroyedSockets::open().unwrap();
        for _ in 0..3 {
            let client = TcpStream::connect(server).unwrap();
            socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            drop((client, accepted));
        }
        let mut ended = 0;
        // The kernel reports from a work queue of its own.
        while ended < 3 {
            destroyed.ports(|port| ended += usize::from(port == server.port())).unwrap();
            std::thread::yield_now();
        }
    }
}
