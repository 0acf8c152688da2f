//! Every listening TCP socket of this network namespace.

use std::io;
use std::net::SocketAddr;

use super::diag::{AF_INET, AF_INET6, Inode, Request, SocketState};
use super::listener::Match;
use super::netlink::NetlinkSocket;

/// A listening socket and its accept queue at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address that it is bound to.
    pub addr: SocketAddr,
    /// Its socket.
    pub inode: Inode,
    /// The user that it belongs to.
    pub uid: u32,
    /// The interface that it is bound to, or 0.
    pub interface: u32,
    /// Whether it takes no IPv4 connections, of a listener bound to an IPv6 address.
    pub only_v6: bool,
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// min(backlog, somaxconn); Linux queues one more.
    pub limit: u32,
    /// Connections and SYNs that it has dropped since `listen`, retransmitted SYNs included. Wraps
    /// around.
    pub drops: u32,
}

impl Listener {
    pub(super) fn of(socket: &SocketState) -> Self {
        Self {
            addr: SocketAddr::new(socket.local, socket.port),
            inode: Inode(socket.inode),
            uid: socket.uid,
            interface: socket.interface,
            only_v6: socket.only_v6,
            depth: socket.receive_queue,
            limit: socket.write_queue,
            drops: socket.drops.unwrap_or(0),
        }
    }
}

/// Lists listening sockets; a list takes some tens of microseconds.
#[derive(Debug)]
pub struct ListenerTable {
    netlink: NetlinkSocket,
}

impl ListenerTable {
    /// Opens the netlink socket, for the network namespace of the calling thread.
    ///
    /// # Errors
    /// As [`DiagSocket::open`](super::DiagSocket::open).
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: NetlinkSocket::open()? })
    }

    /// All listeners of both address families.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn all(&mut self) -> io::Result<Vec<Listener>> {
        self.on_port(0)
    }

    /// The listeners on `port`, of both address families.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn on_port(&mut self, port: u16) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut request = Request::listeners(family, port);
            self.netlink.dump(&mut request.0, |data| {
                found.extend(SocketState::parse(data).as_ref().map(Listener::of));
            })?;
        }
        Ok(found)
    }
}

/// The listeners that get the connections to `server`: the most specific that cover it. Several are
/// an `SO_REUSEPORT` group.
#[must_use]
pub fn covering(listeners: &[Listener], server: SocketAddr) -> Vec<Listener> {
    let address = server.ip().to_canonical();
    let matches = |listener: &Listener| {
        let same_port = listener.addr.port() == server.port();
        Match::of(listener.addr.ip(), listener.only_v6, address).filter(|_| same_port)
    };
    let best = listeners.iter().filter_map(matches).max();
    listeners.iter().filter(|one| best.is_some() && matches(one) == best).copied().collect()
}

/// Whether a connection that ends at `local` came to one of `ours`, of all these listeners.
#[must_use]
pub fn takes(all: &[Listener], ours: &[Listener], local: SocketAddr) -> bool {
    let address = local.ip().to_canonical();
    let best = |listeners: &[Listener]| {
        let of = |one: &Listener| Match::of(one.addr.ip(), one.only_v6, address);
        listeners.iter().filter_map(of).max()
    };
    best(ours).is_some() && best(ours) == best(all)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_is_listed_with_its_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let _waiting = [TcpStream::connect(server).unwrap(), TcpStream::connect(server).unwrap()];
        let mut table = ListenerTable::open().unwrap();
        let all = table.all().unwrap();
        let [found] = covering(&all, server)[..] else { panic!("{all:?}") };
        assert_eq!((found.addr, found.depth, found.drops), (server, 2, 0));
        assert!(found.inode.0 > 0 && found.limit > 0);
        assert_eq!(covering(&table.on_port(server.port()).unwrap(), server), [found]);
    }

    #[test]
    fn the_most_specific_listener_covers_an_address() {
        let wildcard = TcpListener::bind("[::]:0").unwrap();
        let port = wildcard.local_addr().unwrap().port();
        let mut table = ListenerTable::open().unwrap();
        let server = SocketAddr::from(([127, 0, 0, 9], port));
        let [dual] = covering(&table.all().unwrap(), server)[..] else { panic!() };
        assert!(dual.addr.ip().is_unspecified());
        assert_eq!(covering(&[Listener { only_v6: true, ..dual }], server), []);
        assert_eq!(covering(&[dual], SocketAddr::from(([127, 0, 0, 9], port ^ 1))), []);
    }
}
