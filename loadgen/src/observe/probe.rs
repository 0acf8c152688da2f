//! Which way of observing a server allows: one connection, and what comes of it.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use uring_echo::stamp::{FRAME_LEN, Stamp, StampError};

use super::diag::{DiagSocket, SocketSample};
use super::stamp::{StampReader, StampReading};

/// How a server can be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It says when it accepted: exact, for every connection.
    Stamp(Stamp),
    /// Its end of the connection is visible here.
    Diag,
    /// Neither.
    Nothing {
        /// Why, for the person who asked.
        reason: String,
    },
}

/// Connects to `server` once and finds out how its accepts can be observed. Takes at most
/// [`CONNECT_WITHIN`] and [`STAMP_WITHIN`] together.
///
/// # Errors
/// [`ProbeError`] where there was no connection to judge by, or its stamp cannot be read.
pub fn probe(server: SocketAddr) -> Result<Found, ProbeError> {
    let stream = connect(server)?;
    let seen_early = look(&stream);
    if let Some(stamp) = await_stamp(&stream, server)? {
        return Ok(Found::Stamp(stamp));
    }
    // A connection that a full queue kept out at first may be here by now.
    let seen = match seen_early {
        Ok(SocketSample::Absent { .. }) => look(&stream),
        seen => seen,
    };
    Ok(match seen {
        Ok(look) if look.is_visible() => Found::Diag,
        Ok(SocketSample::Absent { listener: true }) => Found::Nothing { reason: ELSEWHERE.into() },
        Ok(_) => Found::Nothing { reason: NOT_HERE.into() },
        Err(error) => Found::Nothing { reason: format!("sock_diag cannot be used: {error}") },
    })
}

/// How long the probe waits to be connected.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the probe waits for a stamp.
pub const STAMP_WITHIN: Duration = Duration::from_millis(300);

/// Why a server could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("{server} refused the connection: nobody listens there")]
    Refused {
        /// The address tried.
        server: SocketAddr,
    },
    /// No answer: a filter, a full accept queue, or no such host.
    #[error("{server} did not answer within {CONNECT_WITHIN:?}")]
    TimedOut {
        /// The address tried.
        server: SocketAddr,
    },
    /// There is no way to that address from here.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// The address tried.
        server: SocketAddr,
        /// What connect(2) said.
        source: io::Error,
    },
    /// Another failure of this side.
    #[error("connecting to {server} to find out how to observe it")]
    Io {
        /// The address tried.
        server: SocketAddr,
        /// What failed.
        source: io::Error,
    },
    /// It stamps, but not so that this program understands it.
    #[error("{server} sends a stamp that cannot be read")]
    InvalidStamp {
        /// The address tried.
        server: SocketAddr,
        /// What is wrong with it.
        source: StampError,
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
    let stream = TcpStream::connect_timeout(&server, CONNECT_WITHIN).map_err(failed)?;
    let addresses = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    // Without a listener a socket can meet itself: simultaneous open (RFC 9293 §3.5).
    match addresses {
        Ok((local, peer)) if local == peer => Err(ProbeError::Refused { server }),
        _ => Ok(stream),
    }
}

fn look(stream: &TcpStream) -> io::Result<SocketSample> {
    DiagSocket::open()?.look(stream.peer_addr()?, stream.local_addr()?)
}

/// The stamp, if the first bytes are one and come in time.
fn await_stamp(mut stream: &TcpStream, server: SocketAddr) -> Result<Option<Stamp>, ProbeError> {
    let deadline = Instant::now() + STAMP_WITHIN;
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
            // It closed, reset or said nothing: no stamp.
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

const NOT_HERE: &str = "the server sends no stamp and is not in this network namespace";
const ELSEWHERE: &str = "the server sends no stamp, and its end of the connection is not in this \
    network namespace although somebody listens on that address here (address translation?)";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use uring_echo::stamp::{AcceptMode, ClockDomain, Engine};

    use super::*;

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

    /// Probes a server that says `greeting` to one connection and stays until that one closes.
    fn probe_greeted(greeting: &[u8]) -> Result<Found, ProbeError> {
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
    fn a_stamping_server_is_found() {
        assert_eq!(probe_greeted(&stamp().encode()).unwrap(), Found::Stamp(stamp()));
    }

    #[test]
    fn a_greeting_that_is_no_stamp_leaves_the_kernel_to_look_at() {
        assert_eq!(probe_greeted(b"220 mail.example ESMTP\r\n").unwrap(), Found::Diag);
    }

    #[test]
    fn a_damaged_stamp_is_an_error() {
        let mut damaged = stamp().encode();
        damaged[30] ^= 1;
        let error = probe_greeted(&damaged).unwrap_err();
        assert!(matches!(error, ProbeError::InvalidStamp { .. }));
    }

    #[test]
    fn a_silent_server_that_does_not_even_accept_is_visible() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        assert_eq!(probe(listener.local_addr().unwrap()).unwrap(), Found::Diag);
    }

    #[test]
    fn nobody_listening_is_refused() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(probe(server).unwrap_err(), ProbeError::Refused { .. }));
    }
}
