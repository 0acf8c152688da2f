//! How full the accept queues of a listening address are.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::diag::{AF_INET, AF_INET6, Request, SocketState};
use super::netlink::NetlinkSocket;
use crate::evidence::{ListenerProbe, QueueDepth};

/// Samples the accept queues behind one address: one, or one per listener of an `SO_REUSEPORT`
/// group. A sample walks the kernel's table of listeners (tens of microseconds): not for a hot
/// thread.
#[derive(Debug)]
pub struct ListenerQueue {
    netlink: NetlinkSocket,
    server: IpAddr,
    requests: [Request; 2],
}

impl ListenerQueue {
    /// Opens the socket to ask through.
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

    /// The queues as they are now; `None` when no socket in this network namespace listens there.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn sample(&mut self) -> io::Result<Option<QueueDepth>> {
        let (mut best, mut depth) = (Match::Mapped, None::<QueueDepth>);
        for request in &mut self.requests {
            self.netlink.dump(&mut request.0, |data| {
                let Some(socket) = SocketState::parse(data) else { return };
                let Some(how) = Match::of(&socket, self.server) else { return };
                if how > best {
                    (best, depth) = (how, None);
                }
                if how == best {
                    add(depth.get_or_insert_default(), &socket);
                }
            })?;
        }
        Ok(depth)
    }
}

impl ListenerProbe for ListenerQueue {
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
}

/// How a listener comes to serve an address. The kernel prefers the closest, so sockets that match
/// less closely get nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// Bound to `[::]` and taking IPv4 as well.
    Mapped,
    /// Bound to any address of the same family.
    Wildcard,
    /// Bound to this very address.
    Exact,
}

impl Match {
    fn of(listener: &SocketState, server: IpAddr) -> Option<Self> {
        if listener.local.to_canonical() == server {
            return Some(Self::Exact);
        }
        if !listener.local.is_unspecified() {
            return None;
        }
        if listener.local.is_ipv4() == server.is_ipv4() {
            return Some(Self::Wildcard);
        }
        (server.is_ipv4() && !listener.only_v6).then_some(Self::Mapped)
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
    fn shows_what_waits_and_the_limit() {
        let (_listener, server) = listen("127.0.0.1:0", 7, false);
        let _waiting = [TcpStream::connect(server).unwrap(), TcpStream::connect(server).unwrap()];
        let expected = QueueDepth { listeners: 1, queued: 2, queued_max: 2, limit: 7 };
        assert_eq!(sample(server), Some(expected));
    }

    #[test]
    fn adds_up_a_reuseport_group() {
        let (_first, server) = listen("[::1]:0", 9, true);
        let (_second, _) = listen(&server.to_string(), 5, true);
        let _waiting: Vec<_> = (0..6).map(|_| TcpStream::connect(server).unwrap()).collect();
        let depth = sample(server).unwrap();
        assert_eq!((depth.listeners, depth.queued, depth.limit), (2, 6, 5));
        assert!((3..=6).contains(&depth.queued_max));
    }

    #[test]
    fn finds_wildcards_and_prefers_the_closest() {
        let (_dual, bound) = listen("[::]:0", 3, false);
        let server = SocketAddr::from(([127, 0, 0, 1], bound.port()));
        assert_eq!(sample(server).map(|depth| depth.limit), Some(3));
        let (_exact, _) = listen(&server.to_string(), 4, false);
        assert_eq!(sample(server).map(|depth| depth.limit), Some(4));
    }

    #[test]
    fn nobody_listening_is_told_apart() {
        let (only_v6, bound) = listen("[::]:0", 3, true);
        assert_eq!(sample(SocketAddr::from(([127, 0, 0, 1], bound.port()))), None);
        drop(only_v6);
        assert_eq!(sample(bound), None);
    }
}
