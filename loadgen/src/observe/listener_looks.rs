//! Samples the accept queues of one address by exact look-ups.
//!
//! A request for a connection that does not exist is answered with the listener that such a
//! connection would go to: one hash look-up instead of a walk through all listeners. The members of
//! an `SO_REUSEPORT` group are reached by different client ports, of which one is kept for each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::diag::{Inode, Request, SocketState};
use super::listener_table::{Listener, ListenerTable, covering};
use super::netlink::NetlinkSocket;

/// The most listeners of one address that are watched.
pub const MEMBERS_MAX: usize = 64;

/// Client ports that are tried to reach all members of a group.
const PORTS_TRIED: u16 = 20_000;

/// How the queues were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Each member was there.
    Whole,
    /// The members are other ones now: one was closed, or one was added.
    Changed,
}

/// The listeners of one address.
#[derive(Debug)]
pub struct ListenerLooks {
    netlink: NetlinkSocket,
    table: ListenerTable,
    server: SocketAddr,
    members: Vec<Member>,
    /// Not every member is reached by an exact look: a program attached to the group chooses, or
    /// there are many. All are listed instead, for each sample.
    listed: bool,
}

#[derive(Debug)]
struct Member {
    request: Request,
    last: Listener,
}

impl ListenerLooks {
    /// Finds the listeners that get the connections to `server`.
    ///
    /// # Errors
    /// The kernel's error; `NotFound` where nobody listens.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let mut looks = Self {
            netlink: NetlinkSocket::open()?,
            table: ListenerTable::open()?,
            server,
            members: Vec::new(),
            listed: false,
        };
        looks.find()?;
        Ok(looks)
    }

    /// The members as of the last sample.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Listener> {
        self.members.iter().map(|member| &member.last)
    }

    /// Samples every member.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn sample(&mut self) -> io::Result<Looks> {
        if self.listed {
            return self.sample_by_list();
        }
        for Member { request, last } in &mut self.members {
            match self.netlink.query(&mut request.0, SocketState::parse)? {
                Some(found) if found.is_listening() && Inode(found.inode) == last.inode => {
                    *last = Listener::of(&found);
                }
                _ => return Ok(Looks::Changed),
            }
        }
        Ok(Looks::Whole)
    }

    fn sample_by_list(&mut self) -> io::Result<Looks> {
        let found = covering(&self.table.on_port(self.server.port())?, self.server);
        if found.len() != self.members.len() {
            return Ok(Looks::Changed);
        }
        for Member { last, .. } in &mut self.members {
            let Some(now) = found.iter().find(|now| now.inode == last.inode) else {
                return Ok(Looks::Changed);
            };
            *last = *now;
        }
        Ok(Looks::Whole)
    }

    /// Whether the kernel's list still has the same members; one that was added changes no look.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn unchanged(&mut self) -> io::Result<bool> {
        let found = covering(&self.table.on_port(self.server.port())?, self.server);
        let known = |now: &Listener| self.members().any(|last| last.inode == now.inode);
        Ok(found.len() == self.members.len() && found.iter().all(known))
    }

    /// Finds the members anew.
    ///
    /// # Errors
    /// The kernel's error; `NotFound` where nobody listens.
    pub fn find(&mut self) -> io::Result<()> {
        let mut listed = covering(&self.table.on_port(self.server.port())?, self.server);
        listed.truncate(MEMBERS_MAX);
        let Some(first) = listed.first() else {
            let text = format!("nobody listens at {} in this network namespace", self.server);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        let interface = first.interface;
        let member = |last: &Listener, port| Member {
            request: Request::listener(self.server, fake_client(self.server, port), interface),
            last: *last,
        };
        let mut found: Vec<Option<Member>> = listed.iter().map(|_| None).collect();
        for port in 1..=PORTS_TRIED {
            if found.iter().all(Option::is_some) {
                break;
            }
            let mut tried = member(&listed[0], port);
            let answer = self.netlink.query(&mut tried.request.0, SocketState::parse)?;
            let Some(answer) = answer.filter(SocketState::is_listening) else { break };
            let at = listed.iter().position(|one| one.inode == Inode(answer.inode));
            if let Some(at) = at.filter(|at| found[*at].is_none()) {
                found[at] = Some(Member { last: Listener::of(&answer), ..tried });
            }
        }
        self.listed = found.iter().any(Option::is_none);
        let all = found.into_iter().zip(&listed);
        self.members = all.map(|(one, last)| one.unwrap_or_else(|| member(last, 1))).collect();
        Ok(())
    }
}

/// An address of the server's family that documentation uses and no client has (RFC 5737 and 3849).
fn fake_client(server: SocketAddr, port: u16) -> SocketAddr {
    let ip = match server.ip().to_canonical() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn listen(address: &str, backlog: i32) -> (Socket, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, bound)
    }

    /// Waits for a listener on `listen`, looked at under each of `asked`.
    fn check(listen_at: &str, asked: &[&str]) {
        let (listener, bound) = listen(listen_at, 7);
        for asked in asked {
            let server = SocketAddr::new(asked.parse().unwrap(), bound.port());
            let mut looks = ListenerLooks::open(server).unwrap();
            assert!(!looks.listed, "{listen_at} asked as {asked}");
            let _waiting = TcpStream::connect(server).unwrap();
            assert_eq!(looks.sample().unwrap(), Looks::Whole);
            let [member] = looks.members().collect::<Vec<_>>()[..] else { panic!() };
            assert_eq!((member.depth, member.limit, member.drops), (1, 7, 0));
            drop(listener.accept().unwrap());
            assert_eq!(looks.sample().unwrap(), Looks::Whole);
            assert_eq!(looks.members().next().unwrap().depth, 0);
        }
    }

    #[test]
    fn listeners_of_every_kind_are_found_by_exact_looks() {
        check("127.0.0.1:0", &["127.0.0.1"]);
        check("0.0.0.0:0", &["127.0.0.1", "127.0.0.7"]);
        check("[::1]:0", &["::1"]);
        check("[::]:0", &["::1", "127.0.0.1"]);
    }

    #[test]
    fn each_member_of_a_group_is_reached() {
        let (_first, server) = listen("127.0.0.1:0", 9);
        let _others: Vec<_> = (0..3).map(|_| listen(&server.to_string(), 9)).collect();
        let mut looks = ListenerLooks::open(server).unwrap();
        assert!(!looks.listed);
        let _waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(server).unwrap()).collect();
        assert_eq!(looks.sample().unwrap(), Looks::Whole);
        let inodes: BTreeSet<u32> = looks.members().map(|member| member.inode.0).collect();
        assert_eq!(inodes.len(), 4);
        assert_eq!(looks.members().map(|member| member.depth).sum::<u32>(), 20);
        let (_late, _) = listen(&server.to_string(), 9);
        assert!(!looks.unchanged().unwrap());
        looks.find().unwrap();
        assert_eq!(looks.members().len(), 5);
    }

    #[test]
    fn a_restarted_listener_is_another_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let mut looks = ListenerLooks::open(server).unwrap();
        drop(listener);
        assert_eq!(looks.sample().unwrap(), Looks::Changed);
        assert_eq!(looks.find().unwrap_err().kind(), io::ErrorKind::NotFound);
        let _again = TcpListener::bind(server).unwrap();
        looks.find().unwrap();
        assert_eq!(looks.sample().unwrap(), Looks::Whole);
    }

    #[test]
    fn what_a_full_queue_drops_is_counted() {
        let (_listener, server) = listen("127.0.0.1:0", 0);
        let _queued = TcpStream::connect(server).unwrap();
        let mut looks = ListenerLooks::open(server).unwrap();
        let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        late.set_nonblocking(true).unwrap();
        assert!(late.connect(&server.into()).is_err());
        assert_eq!(looks.sample().unwrap(), Looks::Whole);
        assert!(looks.members().next().unwrap().drops > 0);
    }
}
