//! Client sockets, made ahead of the instant that needs them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::model::load::Close;
use crate::plan::sources::Sources;

/// Sockets that one thread keeps ready beyond those it may have open.
pub const PREPARED_MAX: u32 = 256;

/// A stock of sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    ready: Vec<OwnedFd>,
    wanted: usize,
    /// Descriptors that the stock and the connections may take together.
    descriptors: usize,
    spec: SocketSpec,
    /// Making one ahead failed; the next attempt is left to whoever needs one.
    out_of_stock: bool,
}

/// How a socket is made.
#[derive(Debug)]
pub(super) struct SocketSpec {
    /// Of its family.
    pub(super) target: SocketAddr,
    /// How it will end.
    pub(super) close: Close,
    /// Whether it will carry messages.
    pub(super) talks: bool,
    /// Whether calls on it return at once, as its transport needs.
    pub(super) nonblocking: bool,
    /// Where it comes from.
    pub(super) sources: Sources,
}

impl Sockets {
    /// Keeps `wanted` sockets ready beside at most `slots` connections.
    pub(super) fn new(spec: SocketSpec, slots: u32, wanted: u32) -> Self {
        let descriptors = slots.saturating_add(PREPARED_MAX) as usize;
        let wanted = (wanted as usize).min(slots as usize);
        Self { ready: Vec::with_capacity(wanted), wanted, descriptors, spec, out_of_stock: false }
    }

    /// A socket from the stock, else a new one.
    ///
    /// # Errors
    /// What socket(2), bind(2) or setsockopt(2) failed with.
    pub(super) fn take(&mut self) -> io::Result<OwnedFd> {
        if let Some(socket) = self.ready.pop() {
            return Ok(socket);
        }
        let made = self.spec.make();
        self.out_of_stock = made.is_err();
        made
    }

    /// Makes one more for the stock if it is short, beside `open` connections. Returns whether it
    /// did.
    pub(super) fn prepare_one(&mut self, open: usize) -> bool {
        let full = self.ready.len() >= self.wanted.min(self.descriptors.saturating_sub(open));
        if self.out_of_stock || full {
            return false;
        }
        match self.spec.make() {
            Ok(socket) => self.ready.push(socket),
            // Not an attempt yet: the one that needs the socket will report the error.
            Err(_) => self.out_of_stock = true,
        }
        !self.out_of_stock
    }
}

impl SocketSpec {
    fn make(&mut self) -> io::Result<OwnedFd> {
        let domain = Domain::for_address(self.target);
        let kind = if self.nonblocking { Type::STREAM.nonblocking() } else { Type::STREAM };
        let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
        if self.talks {
            socket.set_tcp_nodelay(true)?;
        }
        if self.close == Close::Rst {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if let Some(source) = self.sources.next_source() {
            bind(&socket, source)?;
        }
        Ok(socket.into())
    }
}

/// Binds the address and leaves the port to connect, which may then use one that is taken towards
/// other destinations (ip(7), IP_BIND_ADDRESS_NO_PORT, Linux 4.2).
fn bind(socket: &Socket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))
}

#[cfg(test)]
mod tests {

    use socket2::SockRef;

    use super::*;

    fn spec(sources: &[&str], close: Close) -> SocketSpec {
        let networks: Vec<_> = sources.iter().map(|net| net.parse().unwrap()).collect();
        SocketSpec {
            target: "127.0.0.1:7".parse().unwrap(),
            close,
            talks: true,
            nonblocking: true,
            sources: Sources::expand(&networks),
        }
    }

    #[test]
    fn the_stock_is_filled_and_used_up() {
        let mut sockets = Sockets::new(spec(&[], Close::Rst), 10, 2);
        assert!(sockets.prepare_one(0) && sockets.prepare_one(0) && !sockets.prepare_one(0));
        for _ in 0..3 {
            sockets.take().unwrap();
        }
        assert!(sockets.ready.is_empty());
        assert!(!sockets.prepare_one(10 + PREPARED_MAX as usize), "over the descriptors' budget");
    }

    #[test]
    fn sockets_are_made_to_order() {
        let mut sockets = Sockets::new(spec(&["127.0.0.9/32"], Close::Rst), 1, 1);
        let socket = sockets.take().unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.nonblocking().unwrap());
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.to_string(), "127.0.0.9:0", "the port is left to connect");
        let fin = Sockets::new(spec(&[], Close::Fin), 1, 1).take().unwrap();
        assert_eq!(SockRef::from(&fin).linger().unwrap(), None);
    }

    #[test]
    fn a_source_that_is_not_ours_is_an_error_and_not_tried_ahead_again() {
        let mut sockets = Sockets::new(spec(&["192.0.2.1/32"], Close::Rst), 2, 2);
        assert!(!sockets.prepare_one(0) && sockets.out_of_stock);
        let error = sockets.take().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
