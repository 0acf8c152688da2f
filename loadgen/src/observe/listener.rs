//! The lengths of the accept queues of a listening address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::diag::{AF_INET, AF_INET6, Request, SocketState};
use super::netlink::NetlinkSocket;
use crate::evidence::{ListenerSampler, QueueDepth};

/// Samples the accept queues behind one address: one, or one per listener of an `SO_REUSEPORT`
/// group. A sample walks the kernel's table of listeners and takes tens of microseconds, too long
/// for a generator thread.
#[derive(Debug)]
pub struct ListenerQueue {
    netlink: NetlinkSocket,
    server: IpAddr,
    requests: [Request; 2],
}

impl ListenerQueue {
    /// Opens the netlink socket.
    ///
    /// # Errors
    /// As [`DiagSocket::open`](super::DiagSocket::open).
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let port = server.port();
        Ok(Self {
            netlink: NetlinkSocket::open()?,
            server: server.ip().to_canonical(),
            requests: [Request::listeners(AF_INET, port), Request::listeners(AF_INET6, port)],
        })
    }

    /// The queues now; `None` when no socket in this network namespace listens on the address.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn sample(&mut self) -> io::Result<Option<QueueDepth>> {
        let (mut best, mut depth) = (Match::Mapped, None::<QueueDepth>);
        for request in &mut self.requests {
            self.netlink.dump(&mut request.0, |data| {
                let Some(socket) = SocketState::parse(data) else { return };
                let of = Match::of(socket.local, socket.only_v6, self.server);
                let Some(specificity) = of else { return };
                if specificity > best {
                    (best, depth) = (specificity, None);
                }
                if specificity == best {
                    add(depth.get_or_insert_default(), &socket);
                }
            })?;
        }
        Ok(depth)
    }
}

impl ListenerSampler for ListenerQueue {
    fn sample(&mut self) -> io::Result<QueueDepth> {
        let depth = Self::sample(self)?;
        depth
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no listener in this namespace"))
    }
}

/// Adds the queue of another listener of the same address.
fn add(depth: &mut QueueDepth, listener: &SocketState) {
    let limit = listener.write_queue;
    depth.limit = if depth.listeners == 0 { limit } else { depth.limit.min(limit) };
    depth.listeners += 1;
    depth.queued += listener.receive_queue;
    depth.queued_max = depth.queued_max.max(listener.receive_queue);
    depth.drops += u64::from(listener.drops.unwrap_or(0));
}

/// How a listener matches an address, from least to most specific. The kernel gives a connection
/// to the most specific match; less specific listeners get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// Bound to `[::]` and accepting IPv4 as well.
    Mapped,
    /// Bound to the wildcard address of the same family.
    Wildcard,
    /// Bound to the address itself.
    Exact,
}

impl Match {
    /// Of a listener bound to `local`, which takes no IPv4 where `only_v6`.
    pub(super) fn of(local: IpAddr, only_v6: bool, server: IpAddr) -> Option<Self> {
        if local.to_canonical() == server {
            return Some(Self::Exact);
        }
        if !local.is_unspecified() {
            return None;
        }
        if local.is_ipv4() == server.is_ipv4() {
            return Some(Self::Wildcard);
        }
        (server.is_ipv4() && !only_v6).then_some(Self::Mapped)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn listen(address: &str, backlog: i32, only_v6: bool) -> (Socket, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(only_v6).unwrap();
        }
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, bound)
    }

    fn sample(server: SocketAddr) -> Option<QueueDepth> {
        ListenerQueue::open(server).unwrap().sample().unwrap()
    }

    #[test]
    fn queued_connections_and_the_backlog_are_reported() {
        let (_listener, server) = listen("127.0.0.1:0", 7, false);
        let _waiting = [TcpStream::connect(server).unwrap(), TcpStream::connect(server).unwrap()];
        let expected = QueueDepth { listeners: 1, queued: 2, queued_max: 2, limit: 7, drops: 0 };
        assert_eq!(sample(server), Some(expected));
    }

    #[test]
    fn drops_are_those_of_the_listener_and_of_no_other() {
        let (_full, server) = listen("127.0.0.1:0", 0, false);
        let (_other, elsewhere) = listen("127.0.0.1:0", 0, false);
        let _queued = TcpStream::connect(server).unwrap();
        let refused = TcpStream::connect_timeout(&server, std::time::Duration::from_millis(200));
        assert!(refused.is_err(), "the queue is full");
        assert_eq!(sample(server).map(|depth| depth.drops), Some(1));
        assert_eq!(sample(elsewhere).map(|depth| depth.drops), Some(0));
    }

    #[test]
    fn the_queues_of_a_reuseport_group_are_added() {
        let (_first, server) = listen("[::1]:0", 9, true);
        let (_second, _) = listen(&server.to_string(), 5, true);
        let _waiting: Vec<_> = (0..6).map(|_| TcpStream::connect(server).unwrap()).collect();
        let depth = sample(server).unwrap();
        assert_eq!((depth.listeners, depth.queued, depth.limit), (2, 6, 5));
        assert!((3..=6).contains(&depth.queued_max));
    }

    #[test]
    fn wildcard_listeners_are_found_and_the_most_specific_is_preferred() {
        let (_dual, bound) = listen("[::]:0", 3, false);
        let server = SocketAddr::from(([127, 0, 0, 1], bound.port()));
        assert_eq!(sample(server).map(|depth| depth.limit), Some(3));
        let (_exact, _) = listen(&server.to_string(), 4, false);
        assert_eq!(sample(server).map(|depth| depth.limit), Some(4));
    }

    #[test]
    fn an_address_without_a_listener_gives_none() {
        let (only_v6, bound) = listen("[::]:0", 3, true);
        assert_eq!(sample(SocketAddr::from(([127, 0, 0, 1], bound.port()))), None);
        drop(only_v6);
        assert_eq!(sample(bound), None);
    }
}
