//! A client that checks what it gets, and gives up in time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use uring_echo::stamp::{FRAME_LEN, MAGIC, Stamp};

/// What a server did instead of echoing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EchoError(pub String);

impl EchoError {
    /// A system call failed while something was being done.
    pub fn during(what: &str, error: &io::Error) -> Self {
        Self(format!("{what}: {}", described(error)))
    }
}

/// A server, and until when everything with it may take.
#[derive(Debug, Clone, Copy)]
pub struct EchoServer {
    /// Its address.
    pub addr: SocketAddr,
    /// When everything has to have ended.
    pub deadline: Instant,
}

impl EchoServer {
    /// A server to be tried until `deadline`.
    #[must_use]
    pub const fn new(addr: SocketAddr, deadline: Instant) -> Self {
        Self { addr, deadline }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`EchoError`] if that fails or takes too long.
    pub fn connect(&self) -> Result<EchoClient, EchoError> {
        self.connect_from(next_source(self.addr))
    }

    /// Connects from an address of the caller's choice; `None` leaves it to the kernel.
    ///
    /// # Errors
    /// As [`EchoServer::connect`].
    pub fn connect_from(&self, source: Option<IpAddr>) -> Result<EchoClient, EchoError> {
        self.begin_from(source, None)?.complete()
    }

    /// Begins to connect and does not wait; `kernel_buffers` bytes bound what the kernel keeps on
    /// the client's side in each direction.
    pub(crate) fn begin(&self, kernel_buffers: Option<usize>) -> Result<PendingConnect, EchoError> {
        self.begin_from(next_source(self.addr), kernel_buffers)
    }

    fn begin_from(
        &self,
        source: Option<IpAddr>,
        kernel_buffers: Option<usize>,
    ) -> Result<PendingConnect, EchoError> {
        let socket = socket(self.addr, source, kernel_buffers).map_err(failed("connect"))?;
        match socket.connect(&self.addr.into()) {
            Err(error) if !in_progress(&error) => Err(failed("connect")(error)),
            _ => Ok(PendingConnect { socket, deadline: self.deadline }),
        }
    }

    /// Sleeps, but not beyond the deadline.
    pub(crate) fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(self.deadline.saturating_duration_since(Instant::now())));
    }
}

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct PendingConnect {
    socket: Socket,
    deadline: Instant,
}

impl PendingConnect {
    /// Waits until it is there.
    pub(crate) fn complete(self) -> Result<EchoClient, EchoError> {
        let left = time_left(self.deadline).map_err(failed("connect"))?;
        wait_writable(&self.socket, left).map_err(failed("connect"))?;
        if let Some(error) = self.socket.take_error().map_err(failed("connect"))? {
            return Err(failed("connect")(error));
        }
        self.socket.set_nonblocking(false).map_err(failed("connect"))?;
        let stream = TcpStream::from(self.socket);
        Ok(EchoClient { stream, deadline: self.deadline, greeted: false, sent: 0, got: 0 })
    }
}

/// A connection whose every echoed byte is checked. The stamp of a server that sends one is read
/// and left out.
#[derive(Debug)]
pub struct EchoClient {
    stream: TcpStream,
    deadline: Instant,
    greeted: bool,
    sent: u64,
    got: u64,
}

impl EchoClient {
    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`EchoError`] if the server ends the connection or does not take them in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wrote = self.bounded().and_then(|()| again(|| self.stream.write(rest)));
            let wrote = wrote.map_err(|error| {
                EchoError(format!("sending after {} bytes: {}", self.sent, described(&error)))
            })?;
            rest = &rest[wrote..];
            self.sent += wrote as u64;
        }
        Ok(())
    }

    /// Reads exactly `bytes`.
    ///
    /// # Errors
    /// [`EchoError`] if anything else comes, too little, or not in time.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut rest = bytes;
        let mut buffer = vec![0; rest.len().min(CHUNK)];
        while !rest.is_empty() {
            let wanted = rest.len().min(CHUNK);
            let got = self.read(&mut buffer[..wanted])?;
            if got == 0 {
                return self.wrong(format!("the stream ends, {} bytes early", rest.len()));
            }
            if let Some(at) = (0..got).find(|&at| buffer[at] != rest[at]) {
                self.got += at as u64;
                return self.wrong("the next byte is a wrong one".into());
            }
            self.got += got as u64;
            rest = &rest[got..];
        }
        Ok(())
    }

    /// Reads the end of the stream.
    ///
    /// # Errors
    /// [`EchoError`] if anything else comes, or nothing in time.
    pub fn expect_end(&mut self) -> Result<(), EchoError> {
        match self.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => self.wrong("more comes than was sent".into()),
        }
    }

    /// Sends `bytes` and expects them back.
    ///
    /// # Errors
    /// As [`EchoClient::send`] and [`EchoClient::expect`].
    pub fn round_trip(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        self.send(bytes)?;
        self.expect(bytes)
    }

    /// Sends `bytes` and the end of the stream from another thread and reads them back meanwhile.
    ///
    /// # Errors
    /// As [`EchoClient::send`] and [`EchoClient::expect`].
    pub fn stream_through(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut sender = self.sender()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || sender.send(bytes).and_then(|()| sender.half_close()));
            let read = self.expect(bytes);
            if read.is_err() {
                self.abandon();
            }
            // What was read says more than that nobody took the rest.
            let sent = sent.join().unwrap_or_else(|_| panicked());
            read.and(sent)
        })
    }

    /// Ends the own direction: nothing more will be sent.
    ///
    /// # Errors
    /// [`EchoError`] if the connection is gone.
    pub fn half_close(&self) -> Result<(), EchoError> {
        self.stream.shutdown(Shutdown::Write).map_err(failed("half-close"))
    }

    /// Ends it with a reset: `SO_LINGER` 0 (socket(7)) and close.
    ///
    /// # Errors
    /// [`EchoError`] if the option was refused.
    pub fn reset(self) -> Result<(), EchoError> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).map_err(failed("reset"))
    }

    /// Ends both directions, so that whoever waits for it waits no longer.
    pub(crate) fn abandon(&self) {
        // Gone already is as good.
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// The same connection, to send from another thread.
    pub(crate) fn sender(&self) -> Result<Self, EchoError> {
        let stream = self.stream.try_clone().map_err(failed("dup"))?;
        Ok(Self { stream, ..*self })
    }

    /// Sends as much of `bytes` as is taken at once; returns how much.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> Result<usize, EchoError> {
        self.stream.set_nonblocking(true).map_err(failed("send"))?;
        let taken = match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            other => other.map_err(failed("send"))?,
        };
        self.sent += taken as u64;
        self.stream.set_nonblocking(false).map_err(failed("send"))?;
        Ok(taken)
    }

    /// Takes more at once from now on.
    pub(crate) fn read_fast(&self) -> Result<(), EchoError> {
        SockRef::from(&self.stream).set_recv_buffer_size(1 << 20).map_err(failed("SO_RCVBUF"))
    }

    /// Whether it is still open, with nothing to be read.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Takes the stamp, if there is one, as part of the first read.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, EchoError> {
        let got = self.read_bounded(buffer)?;
        if self.greeted || got == 0 {
            return Ok(got);
        }
        self.greeted = true;
        // No payload has this byte.
        if buffer[0] != MAGIC[0] {
            return Ok(got);
        }
        let mut frame = [0; FRAME_LEN];
        let mut filled = got.min(FRAME_LEN);
        frame[..filled].copy_from_slice(&buffer[..filled]);
        while filled < FRAME_LEN {
            match self.read_bounded(&mut frame[filled..])? {
                0 => return self.wrong("the stream ends within a stamp".into()),
                more => filled += more,
            }
        }
        if let Err(error) = Stamp::decode(&frame) {
            return self.wrong(format!("it begins like a stamp, but: {error}"));
        }
        if got > FRAME_LEN {
            buffer.copy_within(FRAME_LEN..got, 0);
            return Ok(got - FRAME_LEN);
        }
        self.read_bounded(buffer)
    }

    fn read_bounded(&mut self, buffer: &mut [u8]) -> Result<usize, EchoError> {
        let read = self.bounded().and_then(|()| again(|| self.stream.read(buffer)));
        read.or_else(|error| self.wrong(described(&error)))
    }

    /// No operation waits beyond the deadline.
    fn bounded(&self) -> io::Result<()> {
        let left = Some(time_left(self.deadline)?);
        self.stream.set_read_timeout(left)?;
        self.stream.set_write_timeout(left)
    }

    fn wrong<T>(&self, message: String) -> Result<T, EchoError> {
        Err(EchoError(format!("after {} bytes of echo: {message}", self.got)))
    }
}

/// Bytes that follow from `seed` and do not contain the first byte of a stamp, so that an echo is
/// never taken for the beginning of one.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Pcg64::seed_from_u64(seed).fill_bytes(&mut bytes);
    for byte in bytes.iter_mut().filter(|byte| **byte == MAGIC[0]) {
        *byte = !MAGIC[0];
    }
    bytes
}

/// Says what was being done when a system call failed.
fn failed(what: &str) -> impl Fn(io::Error) -> EchoError {
    move |error| EchoError::during(what, &error)
}

fn panicked<T>() -> Result<T, EchoError> {
    Err(EchoError("a client thread panicked".into()))
}

/// An error as a person would say it.
fn described(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nothing happens any more".into(),
        ErrorKind::ConnectionReset => "the server resets the connection".into(),
        ErrorKind::BrokenPipe => "the server has closed the connection".into(),
        ErrorKind::ConnectionRefused => "refused".into(),
        _ => error.to_string(),
    }
}

fn socket(
    addr: SocketAddr,
    source: Option<IpAddr>,
    kernel_buffers: Option<usize>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = kernel_buffers {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// To a server on 127.0.0.0/8 all of that network can be the client: each address has its own
/// ports, so that those in TIME_WAIT never run out.
fn next_source(addr: SocketAddr) -> Option<IpAddr> {
    const COUNT: usize = 250;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static BLOCK: OnceLock<u8> = OnceLock::new();
    if !matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        return None;
    }
    // Processes start apart, so that they do not walk through the same ports.
    let block = *BLOCK.get_or_init(|| std::process::id().to_le_bytes()[0]);
    let host = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT + 1;
    Some(Ipv4Addr::new(127, 7, block, u8::try_from(host).expect("at most 250")).into())
}

/// With a timeout set, the kernel does not restart a call that was interrupted (signal(7)).
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

fn wait_writable(socket: &Socket, left: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    match again(|| Ok(poll(&mut fds, Some(&timeout))?))? {
        0 => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Read at once.
const CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use uring_echo::stamp::{AcceptMode, ClockDomain, Engine};

    use super::*;

    /// A server that answers the first bytes it gets with `answer` and closes.
    fn answering(answer: Vec<u8>) -> EchoServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 3]).unwrap();
            stream.write_all(&answer).unwrap();
        });
        EchoServer::new(addr, Instant::now() + Duration::from_secs(10))
    }

    fn exchange(answer: &[u8]) -> Result<(), EchoError> {
        let mut peer = answering(answer.to_vec()).connect()?;
        peer.round_trip(b"abc")?;
        peer.expect_end()
    }

    fn stamp() -> Vec<u8> {
        let stamp = Stamp {
            worker: 1,
            engine: Engine::Uring,
            accept: AcceptMode::Shared,
            accepted_monotonic_ns: 1,
            accepted_realtime_ns: 1,
            sequence: 1,
            clock_domain: ClockDomain(1),
        };
        stamp.encode().to_vec()
    }

    #[test]
    fn an_echo_passes_with_and_without_a_stamp() {
        assert_eq!(exchange(b"abc"), Ok(()));
        assert_eq!(exchange(&[stamp(), b"abc".to_vec()].concat()), Ok(()));
    }

    #[test]
    fn everything_else_is_told_apart() {
        let damaged = [b"UECHOST1", [7; 56].as_slice()].concat();
        let cases: [(&[u8], &str); 5] = [
            (b"ab", "after 2 bytes of echo: the stream ends, 1 bytes early"),
            (b"abd", "after 2 bytes of echo: the next byte is a wrong one"),
            (b"abcd", "after 3 bytes of echo: more comes than was sent"),
            (b"UECH", "the stream ends within a stamp"),
            (&damaged, "begins like a stamp"),
        ];
        for (answer, expected) in cases {
            let error = exchange(answer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let mut target = answering(Vec::new());
        target.deadline = Instant::now() + Duration::from_millis(50);
        let mut peer = target.connect().unwrap();
        let error = peer.round_trip(b"a").unwrap_err().to_string();
        assert!(error.contains("nothing happens any more"), "{error}");
    }

    #[test]
    fn patterns_differ_by_seed() {
        assert_ne!(pattern(1, 100), pattern(2, 100));
        assert!(!pattern(3, 10_000).contains(&MAGIC[0]));
    }
}
