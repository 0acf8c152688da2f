//! Which method of observing accepts a server allows, found out with one connection.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use uring_echo::clock::monotonic_ns;
use uring_echo::stamp::{ClockDomain, FRAME_LEN, Stamp, StampError};

use super::clock_offset::{ClockContradiction, OffsetBounds, StampedAccept};
use super::diag::{DiagSocket, SocketSample};
use super::listener::ListenerQueue;
use super::stamp::{StampReader, StampReading};

/// What one connection to a server showed of how its accepts can be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observability {
    /// The stamp, if the server sends one: exact, for every connection.
    pub stamp: Option<Stamp>,
    /// Whether the server's end of a connection is visible in this network namespace; if not, why,
    /// for the user.
    pub diag: Result<(), String>,
    /// The server's end stayed in the handshake although the client was established and the accept
    /// queue had room: the server wants data first (TCP_DEFER_ACCEPT, tcp(7)).
    pub deferred: bool,
}

/// Connects to `server` once and finds out how its accepts can be observed. Takes at most
/// [`CONNECT_TIMEOUT`] plus [`STAMP_TIMEOUT`].
///
/// # Errors
/// [`ProbeError`] where no connection was made, or its stamp cannot be decoded.
pub fn probe(server: SocketAddr) -> Result<Observability, ProbeError> {
    let stream = connect(server)?;
    let first = sample(&stream);
    let stamp = await_stamp(&stream, server)?;
    // A connection that a full accept queue kept out of the table may have entered it meanwhile.
    let last = match first {
        Ok(SocketSample::Absent { .. } | SocketSample::Handshake) => sample(&stream),
        first => first,
    };
    let deferred = matches!(last, Ok(SocketSample::Handshake)) && has_room(server);
    let diag = match last {
        Ok(sample) if sample.is_visible() => Ok(()),
        Ok(SocketSample::Absent { listener }) => Err(invisible(&stream, listener)),
        Ok(_) => Err(OTHER_NAMESPACE.into()),
        Err(error) => Err(format!("sock_diag cannot be used: {error}")),
    };
    Ok(Observability { stamp, diag, deferred })
}

/// Bounds the offset of the server's clock from this one by connections one after the other: at
/// most [`LEARNING_CONNECTIONS`], and none begins after [`LEARNING_TIME`] but the first.
///
/// # Errors
/// [`ProbeError`] where a connection or its stamp fails, or the stamps contradict each other.
pub fn learn_offset(server: SocketAddr, domain: ClockDomain) -> Result<OffsetBounds, ProbeError> {
    let deadline = Instant::now() + LEARNING_TIME;
    let mut known = OffsetBounds::of(stamped_accept(server, domain)?);
    for _ in 1..LEARNING_CONNECTIONS {
        if Instant::now() >= deadline {
            break;
        }
        let accept = stamped_accept(server, domain)?;
        known.narrow(accept).map_err(|source| ProbeError::Clock { server, source })?;
    }
    Ok(known)
}

fn stamped_accept(server: SocketAddr, domain: ClockDomain) -> Result<StampedAccept, ProbeError> {
    let called_ns = monotonic_ns();
    let stamp = await_stamp(&connect(server)?, server)?;
    let arrived_ns = monotonic_ns();
    let stamp = stamp.ok_or(ProbeError::NoStamp { server })?;
    if !stamp.clock_domain.compares_with(domain) {
        return Err(ProbeError::SeveralClocks { server });
    }
    Ok(StampedAccept { called_ns, accepted_ns: stamp.accepted_monotonic_ns, arrived_ns })
}

/// Why no socket has the addresses that the client sees.
fn invisible(stream: &TcpStream, listener: bool) -> String {
    let end = || DiagSocket::open()?.end_of(stream.local_addr()?);
    match end() {
        Ok(Some(end)) => format!(
            "connections to this address end at {end} in this network namespace (a redirected \
             port): give {end} as the server"
        ),
        _ if listener => ADDRESS_TRANSLATED.into(),
        _ => OTHER_NAMESPACE.into(),
    }
}

fn has_room(server: SocketAddr) -> bool {
    let depth = ListenerQueue::open(server).and_then(|mut queue| queue.sample());
    matches!(depth, Ok(Some(depth)) if depth.queued_max <= depth.limit)
}

/// How long the probe waits for connect to complete.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the probe waits for a stamp.
pub const STAMP_TIMEOUT: Duration = Duration::from_millis(300);

/// Connections that tell the offset of a clock before a run.
const LEARNING_CONNECTIONS: u32 = 200;
/// How long they may take.
const LEARNING_TIME: Duration = Duration::from_secs(1);

/// Why a server could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens on the address.
    #[error("{server} refused the connection: nobody listens there")]
    Refused {
        /// The address tried.
        server: SocketAddr,
    },
    /// No answer: a packet filter, a full accept queue, or no such host.
    #[error("{server} did not answer within {CONNECT_TIMEOUT:?}")]
    TimedOut {
        /// The address tried.
        server: SocketAddr,
    },
    /// There is no route to the address.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// The address tried.
        server: SocketAddr,
        /// The error of connect(2).
        source: io::Error,
    },
    /// Another failure on the client's side.
    #[error("connecting to {server} to find out how to observe it")]
    Io {
        /// The address tried.
        server: SocketAddr,
        /// What failed.
        source: io::Error,
    },
    /// The server sends a stamp that this program cannot decode.
    #[error("{server} sends a stamp that cannot be read")]
    InvalidStamp {
        /// The address tried.
        server: SocketAddr,
        /// What is wrong with the stamp.
        source: StampError,
    },
    /// A connection without a stamp, after one with it.
    #[error("{server} did not stamp a connection within {STAMP_TIMEOUT:?}")]
    NoStamp {
        /// The address tried.
        server: SocketAddr,
    },
    /// Stamps are not all of one clock.
    #[error(
        "connections to {server} end on machines with different clocks (a load balancer?), or \
         the server does not know its clock: name one of them"
    )]
    SeveralClocks {
        /// The address tried.
        server: SocketAddr,
    },
    /// Stamps of one clock that no offset explains.
    #[error("the clock of {server} was set, or is far from true: {source}")]
    Clock {
        /// The address tried.
        server: SocketAddr,
        /// By how much.
        source: ClockContradiction,
    },
}

fn connect(server: SocketAddr) -> Result<TcpStream, ProbeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => ProbeError::Refused { server },
        io::ErrorKind::TimedOut => ProbeError::TimedOut { server },
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ProbeError::Unreachable { server, source }
        }
        _ => ProbeError::Io { server, source },
    };
    let stream = TcpStream::connect_timeout(&server, CONNECT_TIMEOUT).map_err(failed)?;
    let addresses = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    // Without a listener a socket can connect to itself: simultaneous open (RFC 9293 §3.5).
    match addresses {
        Ok((local, peer)) if local == peer => Err(ProbeError::Refused { server }),
        _ => Ok(stream),
    }
}

fn sample(stream: &TcpStream) -> io::Result<SocketSample> {
    DiagSocket::open()?.sample(stream.peer_addr()?, stream.local_addr()?)
}

/// The stamp, if the first bytes are one and arrive within [`STAMP_TIMEOUT`].
fn await_stamp(mut stream: &TcpStream, server: SocketAddr) -> Result<Option<Stamp>, ProbeError> {
    let deadline = Instant::now() + STAMP_TIMEOUT;
    let mut reader = StampReader::new();
    let mut chunk = [0; FRAME_LEN];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let io_failed = |source| ProbeError::Io { server, source };
        stream.set_read_timeout(Some(left)).map_err(io_failed)?;
        let len = match stream.read(&mut chunk) {
            // The server closed, reset, or sent nothing in time: no stamp.
            Ok(0) | Err(_) => return Ok(None),
            Ok(len) => len,
        };
        match reader.push(&chunk[..len]) {
            StampReading::NeedMore => {}
            StampReading::NotAStamp => return Ok(None),
            StampReading::Stamp { stamp, .. } => return Ok(Some(stamp)),
            StampReading::Invalid(source) => {
                return Err(ProbeError::InvalidStamp { server, source });
            }
        }
    }
}

const OTHER_NAMESPACE: &str = "the server's end of a connection is in another network namespace or \
    on another host";
const ADDRESS_TRANSLATED: &str = "the server's end of a connection is not in this network \
    namespace although somebody listens on that address here (address translation?)";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use uring_echo::stamp::{AcceptMode, ClockDomain, Engine};

    use super::*;

    const DIAG: Observability = Observability { stamp: None, diag: Ok(()), deferred: false };

    fn stamp() -> Stamp {
        Stamp {
            worker: 0,
            engine: Engine::Epoll,
            accept: AcceptMode::Shared,
            accepted_monotonic_ns: 1,
            accepted_realtime_ns: 2,
            sequence: 0,
            clock_domain: ClockDomain(3),
        }
    }

    /// Probes a server that sends `greeting` on one connection and waits for the client to close.
    fn probe_server(greeting: &[u8]) -> Result<Observability, ProbeError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(greeting).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
            });
            probe(server)
        })
    }

    #[test]
    fn a_stamping_server_is_observable_by_stamp() {
        let found = probe_server(&stamp().encode()).unwrap();
        assert_eq!((found.stamp, found.diag), (Some(stamp()), Ok(())));
    }

    #[test]
    fn a_server_whose_greeting_is_no_stamp_is_observable_by_diag() {
        assert_eq!(probe_server(b"220 mail.example ESMTP\r\n").unwrap(), DIAG);
    }

    #[test]
    fn a_damaged_stamp_is_an_error() {
        let mut damaged = stamp().encode();
        damaged[30] ^= 1;
        let error = probe_server(&damaged).unwrap_err();
        assert!(matches!(error, ProbeError::InvalidStamp { .. }));
    }

    #[test]
    fn a_server_that_never_accepts_is_observable_by_diag() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        assert_eq!(probe(listener.local_addr().unwrap()).unwrap(), DIAG);
    }

    #[test]
    fn an_address_without_a_listener_is_refused() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(probe(server).unwrap_err(), ProbeError::Refused { .. }));
    }
}
