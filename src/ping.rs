//! One message to an echo server and back: `uring-echo ping`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::stamp::{FRAME_LEN, MAGIC};

const MESSAGE: &[u8] = b"uring-echo ping: accepted, received and returned";

/// An echo that came back whole.
#[derive(Clone, Copy, Debug)]
pub struct Pong {
    /// From the send to the last byte.
    pub round_trip: Duration,
    /// Bytes echoed.
    pub bytes: usize,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// A step failed: nobody listens, or the network does not lead there.
    #[error("{step}: {source}")]
    Io {
        /// `connect`, `send` or `receive`.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time: it listens, and served nobody meanwhile.
    #[error("no echo within {0:?}: it listens, and is full (--max-connections) or stalled")]
    TimedOut(Duration),
    /// The connection was closed without an answer.
    #[error("closed without an echo: it turns this peer away (--max-per-ip), or is ending")]
    Closed,
    /// The server answered something else.
    #[error("the server answered, but not with what it was sent: it is no echo server")]
    Mismatch,
}

impl PingError {
    fn of(step: &'static str, source: io::Error, timeout: Duration) -> Self {
        match (step, source.kind()) {
            ("connect", ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                let source =
                    io::Error::new(ErrorKind::TimedOut, format!("no answer in {timeout:?}"));
                Self::Io { step, source }
            }
            ("connect", _) => Self::Io { step, source },
            (_, ErrorKind::TimedOut | ErrorKind::WouldBlock) => Self::TimedOut(timeout),
            (_, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Self::Closed
            }
            (..) => Self::Io { step, source },
        }
    }

    /// Whether somebody listens there who did not serve this connection: full, not dead.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Closed)
    }
}

/// Connects, sends a message and reads it back, each step within `timeout`.
///
/// # Errors
/// [`PingError`] naming the step that failed.
pub fn ping(addr: SocketAddr, timeout: Duration) -> Result<Pong, PingError> {
    let at = |step| move |source: io::Error| PingError::of(step, source, timeout);
    let mut stream = TcpStream::connect_timeout(&addr, timeout).map_err(at("connect"))?;
    stream.set_read_timeout(Some(timeout)).map_err(at("connect"))?;
    stream.set_write_timeout(Some(timeout)).map_err(at("connect"))?;
    let start = Instant::now();
    stream.write_all(MESSAGE).map_err(at("send"))?;
    let mut answer = [0; MESSAGE.len()];
    stream.read_exact(&mut answer).map_err(at("receive"))?;
    if answer.starts_with(&MAGIC) {
        answer = after_stamp(&mut stream, &answer).map_err(at("receive"))?;
    }
    if answer != *MESSAGE {
        return Err(PingError::Mismatch);
    }
    Ok(Pong { round_trip: start.elapsed(), bytes: MESSAGE.len() })
}

/// The server stamps: what was read is the beginning of the frame, the echo comes behind it.
fn after_stamp(stream: &mut TcpStream, read: &[u8]) -> io::Result<[u8; MESSAGE.len()]> {
    let mut rest = [0; FRAME_LEN];
    stream.read_exact(&mut rest[read.len()..])?;
    let mut echo = [0; MESSAGE.len()];
    stream.read_exact(&mut echo)?;
    Ok(echo)
}
