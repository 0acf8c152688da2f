//! Samples the server's end of a connection from outside the server process.
//!
//! A connection that waits in the accept queue has no `struct socket` yet, so the kernel reports
//! inode 0 for it; `accept` gives it one. An exact-tuple `SOCK_DIAG_BY_FAMILY` request
//! (sock_diag(7), linux/inet_diag.h) is one hash lookup, works without privilege, and shows every
//! connection that ends in the caller's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::netlink::{HEADER_LEN, NLM_F_DUMP, NetlinkSocket, header, u32_at};

/// What one sample of the server's end of a connection shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketSample {
    /// The kernel has not finished the handshake (`SYN_RECV`). The client may be connected
    /// nevertheless: the kernel drops the last ACK while the accept queue is full.
    Handshake,
    /// The connection waits in the accept queue.
    Queued,
    /// A process holds the connection.
    Accepted {
        /// The socket in that process.
        inode: Inode,
    },
    /// A process held the connection and has closed it (`FIN_WAIT`, `TIME_WAIT` and the other
    /// closing states): the kernel sends no FIN for a connection that was not accepted.
    Ended,
    /// There is no such connection in this network namespace.
    Absent {
        /// Whether a listener in this network namespace covers the server's address.
        listener: bool,
    },
}

impl SocketSample {
    /// Whether the server's end exists in this network namespace.
    #[must_use]
    pub const fn is_visible(self) -> bool {
        !matches!(self, Self::Absent { .. })
    }
}

/// The number of a socket in the kernel's table of open files, never 0; `/proc/PID/fd` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode(pub u32);

/// Samples connections: two system calls each, 1 to 4 µs depending on the machine.
#[derive(Debug)]
pub struct DiagSocket {
    netlink: NetlinkSocket,
    request: Request,
}

impl DiagSocket {
    /// Opens the netlink socket.
    ///
    /// # Errors
    /// The error of socket(2) where the kernel has no sock_diag or a sandbox denies it.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: NetlinkSocket::open()?, request: Request::exact() })
    }

    /// Samples the server's end of the connection between these two addresses, both as the client
    /// sees them (`getpeername` and `getsockname`, so neither is a wildcard).
    ///
    /// An IPv4-mapped address (`::ffff:a.b.c.d`) is looked up as IPv4: the kernel keeps a
    /// connection under its IPv4 addresses, also one that a listener on `[::]` accepted.
    ///
    /// # Errors
    /// The kernel's error, or `EAGAIN` when it did not answer. A connection that does not exist is
    /// not an error.
    pub fn sample(&mut self, server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
        self.request.set_addresses(server, client);
        let found = self.netlink.query(&mut self.request.0, SocketState::parse)?;
        Ok(found.map_or(SocketSample::Absent { listener: false }, SocketState::classify))
    }

    /// How many segments of `client`, SYNs included, were sent again (`tcpi_total_retrans`
    /// of tcp(7)); `None` when that end is not in this network namespace.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn retransmissions(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
    ) -> io::Result<Option<u32>> {
        let mut request = Request::exact();
        request.0[EXTENSIONS_AT] = 1 << (INET_DIAG_INFO - 1);
        request.set_addresses(client, server);
        let answer =
            self.netlink.query(&mut request.0, |data| Some(total_retransmissions(data)))?;
        Ok(answer.flatten())
    }

    /// Where the connection of `client` ends in this network namespace, whatever address the client
    /// connected to: address translation may have led it elsewhere. `None` if it does not end here.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn end_of(&mut self, client: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let mut end = None;
        for family in [AF_INET, AF_INET6] {
            let mut request = Request::of_peer(family, client.port());
            self.netlink.dump(&mut request.0, |data| {
                let Some([local, peer]) = addresses(data) else { return };
                if peer == client && local != client {
                    end = Some(local);
                }
            })?;
        }
        Ok(end)
    }

    /// When the kernel had taken the last sample, monotonic nanoseconds; reading its answer came
    /// after this instant.
    #[must_use]
    pub fn sampled_ns(&self) -> u64 {
        self.netlink.processed_ns()
    }
}

/// A request: netlink header and `struct inet_diag_req_v2`.
#[derive(Debug)]
pub(super) struct Request(pub(super) [u8; REQUEST_LEN]);

impl Request {
    /// For one connection; [`set_addresses`](Self::set_addresses) says which.
    fn exact() -> Self {
        let mut request = Self::new(0);
        request.0[STATES_AT..STATES_AT + 4].fill(0xff);
        // INET_DIAG_NOCOOKIE: any socket with these addresses matches.
        request.0[COOKIE_AT..COOKIE_AT + 8].fill(0xff);
        request
    }

    /// For the listener that the kernel would give a connection from `client` to `server` to, with
    /// its memory and drop counters.
    pub(super) fn listener(server: SocketAddr, client: SocketAddr, interface: u32) -> Self {
        let mut request = Self::exact();
        request.0[EXTENSIONS_AT] = WITH_MEMORY;
        request.set_addresses(server, client);
        request.0[ID_AT + 36..ID_AT + 40].copy_from_slice(&interface.to_ne_bytes());
        request
    }

    /// For all sockets of the address family `family` that listen on `port`, or on any port where
    /// that is 0, with their memory and drop counters.
    pub(super) fn listeners(family: u8, port: u16) -> Self {
        let mut request = Self::new(NLM_F_DUMP);
        request.0[FAMILY_AT] = family;
        request.0[EXTENSIONS_AT] = WITH_MEMORY;
        let listening = 1_u32 << TCP_LISTEN;
        request.0[STATES_AT..STATES_AT + 4].copy_from_slice(&listening.to_ne_bytes());
        request.0[ID_AT..ID_AT + 2].copy_from_slice(&port.to_be_bytes());
        request
    }

    /// For all connections of the address family `family` with local port `port` whose handshake
    /// has ended and that the server has not closed, with their TCP_INFO.
    pub(super) fn established(family: u8, port: u16) -> Self {
        let mut request = Self::new(NLM_F_DUMP);
        request.0[FAMILY_AT] = family;
        request.0[EXTENSIONS_AT] = 1 << (INET_DIAG_INFO - 1);
        let states = 1_u32 << TCP_ESTABLISHED | 1 << TCP_CLOSE_WAIT;
        request.0[STATES_AT..STATES_AT + 4].copy_from_slice(&states.to_ne_bytes());
        request.0[ID_AT..ID_AT + 2].copy_from_slice(&port.to_be_bytes());
        request
    }

    /// For all sockets of the address family `family` whose peer has this port.
    fn of_peer(family: u8, port: u16) -> Self {
        let mut request = Self::new(NLM_F_DUMP);
        request.0[FAMILY_AT] = family;
        request.0[STATES_AT..STATES_AT + 4].fill(0xff);
        request.0[ID_AT + 2..ID_AT + 4].copy_from_slice(&port.to_be_bytes());
        request
    }

    fn new(flags: u16) -> Self {
        let mut bytes = [0; REQUEST_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&header(REQUEST_LEN, flags));
        bytes[PROTOCOL_AT] = IPPROTO_TCP;
        Self(bytes)
    }

    /// Source is the server, destination the client: the request names the server's end.
    fn set_addresses(&mut self, server: SocketAddr, client: SocketAddr) {
        let id = &mut self.0[ID_AT..];
        id[0..2].copy_from_slice(&server.port().to_be_bytes());
        id[2..4].copy_from_slice(&client.port().to_be_bytes());
        id[4..36].fill(0);
        id[36..40].copy_from_slice(&scope_id(server).to_ne_bytes());
        match (server.ip().to_canonical(), client.ip().to_canonical()) {
            (IpAddr::V4(server), IpAddr::V4(client)) => {
                id[4..8].copy_from_slice(&server.octets());
                id[20..24].copy_from_slice(&client.octets());
                self.0[FAMILY_AT] = AF_INET;
            }
            (server, client) => {
                id[4..20].copy_from_slice(&to_ipv6(server).octets());
                id[20..36].copy_from_slice(&to_ipv6(client).octets());
                self.0[FAMILY_AT] = AF_INET6;
            }
        }
    }
}

/// An answer: the fields of `struct inet_diag_msg` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketState {
    /// The socket's own address.
    pub(super) local: IpAddr,
    /// The socket's own port.
    pub(super) port: u16,
    /// The interface that the socket is bound to, or 0.
    pub(super) interface: u32,
    /// `TCP_ESTABLISHED` and so on.
    state: u8,
    /// For a listener: how many connections wait in its accept queue.
    pub(super) receive_queue: u32,
    /// For a listener: the effective backlog; the kernel drops connections beyond it.
    pub(super) write_queue: u32,
    pub(super) inode: u32,
    /// The user that the socket belongs to.
    pub(super) uid: u32,
    /// Whether an IPv6 listener accepts no IPv4 connections (`INET_DIAG_SKV6ONLY`).
    pub(super) only_v6: bool,
    /// Packets that the kernel dropped at the socket (`INET_DIAG_SKMEMINFO`), if it was asked.
    pub(super) drops: Option<u32>,
}

impl SocketState {
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let address = data.get(8..24)?;
        let local = match *data.first()? {
            AF_INET => IpAddr::V4(Ipv4Addr::from(*address.first_chunk()?)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(*address.first_chunk()?)),
            _ => return None,
        };
        let attributes = data.get(MESSAGE_LEN..)?;
        let memory = attribute(attributes, INET_DIAG_SKMEMINFO);
        Some(Self {
            local,
            port: u16::from_be_bytes(*data.get(4..)?.first_chunk()?),
            interface: u32_at(data, 40)?,
            state: *data.get(1)?,
            receive_queue: u32_at(data, 56)?,
            write_queue: u32_at(data, 60)?,
            uid: u32_at(data, 64)?,
            inode: u32_at(data, 68)?,
            drops: memory.and_then(|memory| u32_at(memory, SK_MEMINFO_DROPS_AT)),
            only_v6: attribute(attributes, INET_DIAG_SKV6ONLY) == Some(&[1]),
        })
    }

    pub(super) fn is_listening(&self) -> bool {
        self.state == TCP_LISTEN
    }

    fn classify(self) -> SocketSample {
        match (self.state, self.inode) {
            // The kernel's lookup falls back to the listener when no connection matches.
            (TCP_LISTEN, _) => SocketSample::Absent { listener: true },
            (TCP_ESTABLISHED | TCP_CLOSE_WAIT, 0) => SocketSample::Queued,
            (TCP_SYN_RECV | TCP_NEW_SYN_RECV, 0) => SocketSample::Handshake,
            (TCP_FIN_WAIT1 | TCP_FIN_WAIT2 | TCP_TIME_WAIT | TCP_LAST_ACK | TCP_CLOSING, 0) => {
                SocketSample::Ended
            }
            // Closed; the kernel is about to remove it from the table.
            (_, 0) => SocketSample::Absent { listener: false },
            (_, inode) => SocketSample::Accepted { inode: Inode(inode) },
        }
    }
}

/// The socket's own address and its peer's, in the form in which clients have them.
pub(super) fn addresses(data: &[u8]) -> Option<[SocketAddr; 2]> {
    let port = |at: usize| Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?));
    let address = |at: usize| {
        let bytes = data.get(at..at + 16)?;
        Some(match *data.first()? {
            AF_INET => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk()?)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk()?)).to_canonical(),
            _ => return None,
        })
    };
    Some([SocketAddr::new(address(8)?, port(4)?), SocketAddr::new(address(24)?, port(6)?)])
}

/// How long ago the socket last sent data, in milliseconds (`tcpi_last_data_sent`). One that waits
/// to be accepted has sent none: the kernel counts from the end of its handshake.
pub(super) fn last_sent_ms(data: &[u8]) -> Option<u32> {
    let info = attribute(data.get(MESSAGE_LEN..)?, INET_DIAG_INFO)?;
    u32_at(info, LAST_DATA_SENT_AT)
}

/// Of a socket that is connected or connecting: listeners and handshakes have no such counter.
fn total_retransmissions(data: &[u8]) -> Option<u32> {
    let info = attribute(data.get(MESSAGE_LEN..)?, INET_DIAG_INFO)?;
    u32_at(info, TOTAL_RETRANS_AT)
}

/// The value of attribute `wanted` (`struct nlattr`: length, type, value, padded to four).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (len, kind) = (u16_ne(attributes, 0)?, u16_ne(attributes, 2)?);
        let len = usize::from(len);
        if kind == wanted {
            return attributes.get(4..len);
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn u16_ne(bytes: &[u8], at: usize) -> Option<u16> {
    super::netlink::u16_at(bytes, at)
}

fn to_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The interface index, which a link-local address needs to be unambiguous; else 0.
fn scope_id(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

/// `AF_INET` as the kernel writes it into a byte.
pub(super) const AF_INET: u8 = 2;
/// `AF_INET6` as the kernel writes it into a byte.
pub(super) const AF_INET6: u8 = 10;

const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// Offset of `SK_MEMINFO_DROPS` in the numbers of `INET_DIAG_SKMEMINFO` (linux/sock_diag.h).
const SK_MEMINFO_DROPS_AT: usize = 32;
/// The extension by which a listener's drops are asked for.
const WITH_MEMORY: u8 = 1 << (INET_DIAG_SKMEMINFO - 1);
/// Offset of `tcpi_last_data_sent` in `struct tcp_info` (linux/tcp.h).
const LAST_DATA_SENT_AT: usize = 44;
/// Offset of `tcpi_total_retrans` in `struct tcp_info` (linux/tcp.h).
const TOTAL_RETRANS_AT: usize = 100;

// Offsets in the request; the answer's `inet_diag_msg` has its own 72 bytes.
const FAMILY_AT: usize = HEADER_LEN;
const PROTOCOL_AT: usize = HEADER_LEN + 1;
const EXTENSIONS_AT: usize = HEADER_LEN + 2;
const STATES_AT: usize = HEADER_LEN + 4;
const ID_AT: usize = HEADER_LEN + 8;
const COOKIE_AT: usize = ID_AT + 40;
const REQUEST_LEN: usize = ID_AT + 48;
const MESSAGE_LEN: usize = 72;

// include/net/tcp_states.h
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_RECV: u8 = 3;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;
const TCP_LISTEN: u8 = 10;
const TCP_CLOSING: u8 = 11;
const TCP_NEW_SYN_RECV: u8 = 12;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn sample(diag: &mut DiagSocket, client: &TcpStream) -> SocketSample {
        diag.sample(client.peer_addr().unwrap(), client.local_addr().unwrap()).unwrap()
    }

    /// Samples a connection to a listener on `listen`, made to `connect`, in each of its states.
    fn check_states(listen: &str, connect: &str) {
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let mut diag = DiagSocket::open().unwrap();
        assert_eq!(sample(&mut diag, &client), SocketSample::Queued);
        let (server, _) = listener.accept().unwrap();
        let accepted = sample(&mut diag, &client);
        assert!(matches!(accepted, SocketSample::Accepted { inode: Inode(1..) }));
        drop(server);
        assert_eq!(sample(&mut diag, &client), SocketSample::Ended);
    }

    #[test]
    fn ipv4_is_queued_then_accepted_then_ended() {
        check_states("127.0.0.1", "127.0.0.1");
    }

    #[test]
    fn ipv6_is_queued_then_accepted_then_ended() {
        check_states("::1", "::1");
    }

    #[test]
    fn ipv4_to_a_dual_stack_listener_is_sampled() {
        check_states("::", "127.0.0.1");
    }

    #[test]
    fn a_mapped_client_of_a_dual_stack_listener_is_sampled() {
        check_states("::", "::ffff:127.0.0.1");
    }

    #[test]
    fn a_mapped_client_of_an_ipv4_listener_is_sampled() {
        check_states("127.0.0.1", "::ffff:127.0.0.1");
    }

    #[test]
    fn a_queued_connection_stays_queued_after_the_clients_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(sample(&mut DiagSocket::open().unwrap(), &client), SocketSample::Queued);
    }

    #[test]
    fn an_absent_connection_is_reported_with_or_without_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = "127.0.0.9:9".parse().unwrap();
        let mut diag = DiagSocket::open().unwrap();
        assert_eq!(diag.sample(server, client).unwrap(), SocketSample::Absent { listener: true });
        drop(listener);
        assert_eq!(diag.sample(server, client).unwrap(), SocketSample::Absent { listener: false });
    }

    #[test]
    fn the_syns_that_a_full_queue_drops_are_counted() {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let server = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = TcpStream::connect(server).unwrap();
        let mut diag = DiagSocket::open().unwrap();
        let client = queued.local_addr().unwrap();
        assert_eq!(diag.retransmissions(client, server).unwrap(), Some(0));
        let late = thread::spawn(move || TcpStream::connect(server).unwrap());
        // Taken out at once, so that the second SYN, a second later, finds room.
        thread::sleep(std::time::Duration::from_millis(200));
        drop(listener.accept().unwrap());
        let client = late.join().unwrap().local_addr().unwrap();
        let counted = diag.retransmissions(client, server).unwrap();
        assert!(counted.is_none_or(|sent| sent > 0), "{counted:?}");
        assert_eq!(diag.retransmissions("127.0.0.9:9".parse().unwrap(), server).unwrap(), None);
    }

    #[test]
    fn a_server_that_has_shut_down_but_not_closed_counts_as_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        let mut diag = DiagSocket::open().unwrap();
        assert!(matches!(sample(&mut diag, &client), SocketSample::Accepted { .. }));
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(data: Vec<u8>) {
            prop_assert!(SocketState::parse(&data).is_none() || data.len() >= MESSAGE_LEN);
        }

        #[test]
        fn arbitrary_attributes_never_panic(bytes: Vec<u8>, wanted: u16) {
            let found = attribute(&bytes, wanted);
            prop_assert!(found.is_none() || bytes.len() >= 4);
        }
    }
}
