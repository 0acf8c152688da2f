//! The client's side: connect, one message, its echo, close, each timed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use uring_echo::clock::monotonic_ns;
use uring_echo::stamp::{ClockDomain, Stamp};

use super::moments::Moment;
use crate::model::trace::{Event, Side};
use crate::observe::{DiagSocket, StampReader, StampReading};

/// The message.
const MESSAGE: &[u8; 16] = b"loadgen's trace\n";
/// As long as eight SYNs take by the kernel's schedule, and the answer to the last.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that has not answered by then is taken for one that waits for more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket with an address, so that it is known which connection to look for.
#[derive(Debug)]
pub(super) struct Client {
    socket: Socket,
    pub(super) addr: SocketAddr,
    moments: Vec<Moment>,
}

/// An established connection.
#[derive(Debug)]
pub(super) struct Connected {
    stream: TcpStream,
    moments: Vec<Moment>,
}

impl Client {
    /// A socket bound to the address from which `server` is reached.
    pub(super) fn start(server: SocketAddr) -> io::Result<Self> {
        let (made, socket) = Moment::of_call(Side::Client, Event::Socket, || {
            Socket::new(Domain::for_address(server), Type::STREAM, None)
        });
        let socket = socket?;
        socket.bind(&SocketAddr::from((source(server)?, 0)).into())?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { socket, addr, moments: vec![made] })
    }

    /// Connects.
    pub(super) fn connect(mut self, server: SocketAddr) -> io::Result<Connected> {
        let mut diag = DiagSocket::open()?;
        let called = Moment::now(Side::Client, Event::ConnectCalled);
        self.socket.connect_timeout(&server.into(), CONNECT_TIMEOUT)?;
        let established = Moment::now(Side::Client, Event::Established);
        let sent_again = diag.retransmissions(self.addr, server)?.filter(|count| *count > 0);
        self.moments.push(called);
        self.moments.extend(sent_again.map(|count| {
            let moment = Moment::at(Side::Client, Event::SynRetransmitted, established.at_ns);
            let seen_within_ns = Some(established.at_ns - called.at_ns);
            Moment { seen_within_ns, ..moment }.count(count.into())
        }));
        self.moments.push(established);
        Ok(Connected { stream: self.socket.into(), moments: self.moments })
    }
}

impl Connected {
    /// One message there and back.
    pub(super) fn exchange(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        self.moments.push(Moment::now(Side::Client, Event::Sent).count(MESSAGE.len() as u64));
        self.stream.write_all(MESSAGE)?;
        let answer = self.answer()?;
        let echoed = answer.bytes == MESSAGE;
        let event = if echoed { Event::Echoed } else { Event::Answered };
        let count = answer.bytes.len() as u64;
        self.moments.push(Moment::at(Side::Client, event, answer.last_ns).count(count));
        self.moments.extend(answer.stamp.and_then(accepted));
        Ok(())
    }

    /// The end. Returns what happened, with the accept among it if the server told when that was.
    pub(super) fn close(mut self) -> Vec<Moment> {
        self.moments.push(Moment::now(Side::Client, Event::Closed));
        drop(self.stream);
        self.moments
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::new();
        let mut buffer = [0; 4096];
        while !answer.complete() {
            let len = match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if is_silence(&error) => break,
                Err(error) => return Err(error),
            };
            let now = monotonic_ns();
            if answer.first {
                answer.first = false;
                self.moments.push(Moment::at(Side::Client, Event::FirstByte, now));
            }
            answer.push(&buffer[..len], now)?;
        }
        Ok(answer)
    }
}

/// What the server sends: perhaps a stamp, then an echo or something else.
#[derive(Debug)]
struct Answer {
    reader: Option<StampReader>,
    stamp: Option<Stamp>,
    bytes: Vec<u8>,
    last_ns: u64,
    first: bool,
}

impl Answer {
    fn new() -> Self {
        let reader = Some(StampReader::new());
        Self { reader, stamp: None, bytes: Vec::new(), last_ns: monotonic_ns(), first: true }
    }

    fn complete(&self) -> bool {
        self.bytes.len() >= MESSAGE.len()
    }

    fn push(&mut self, chunk: &[u8], now_ns: u64) -> io::Result<()> {
        self.last_ns = now_ns;
        let Some(mut reader) = self.reader.take() else {
            self.bytes.extend_from_slice(chunk);
            return Ok(());
        };
        match reader.push(chunk) {
            StampReading::NeedMore => self.reader = Some(reader),
            StampReading::NotAStamp => self.bytes = [reader.held(), chunk].concat(),
            StampReading::Stamp { stamp, taken } => {
                self.stamp = Some(stamp);
                self.bytes.extend_from_slice(&chunk[taken..]);
            }
            StampReading::Invalid(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }
}

/// The accept as the stamp has it, if its clock is this machine's.
fn accepted(stamp: Stamp) -> Option<Moment> {
    let here = ClockDomain::current().ok()?;
    let comparable = here.compares_with(stamp.clock_domain);
    comparable.then(|| Moment::at(Side::Server, Event::Accepted, stamp.accepted_monotonic_ns))
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The local address of a route to `server`: connecting a datagram socket sends nothing.
fn source(server: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}
