//! A blocking client that compares every echoed byte and keeps a deadline.

mod error;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use uring_echo::stamp::{FRAME_LEN, MAGIC, Stamp};

pub use self::error::EchoError;

/// A server and the deadline of all operations with it.
#[derive(Debug, Clone, Copy)]
pub struct EchoServer {
    /// Its address.
    pub addr: SocketAddr,
    /// No operation waits beyond this instant.
    pub deadline: Instant,
}

impl EchoServer {
    /// A server with the deadline of all operations.
    #[must_use]
    pub const fn new(addr: SocketAddr, deadline: Instant) -> Self {
        Self { addr, deadline }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`EchoError`] if that fails or exceeds the deadline.
    pub fn connect(&self) -> Result<EchoClient, EchoError> {
        self.connect_from(next_source(self.addr))
    }

    /// Connects from `source`; with `None` the kernel chooses the address.
    ///
    /// # Errors
    /// As [`EchoServer::connect`].
    pub fn connect_from(&self, source: Option<IpAddr>) -> Result<EchoClient, EchoError> {
        self.begin_connect_from(source, None)?.complete()
    }

    /// Starts to connect without waiting. `kernel_buffers` is the size in bytes of the client
    /// socket's send buffer and of its receive buffer; `None` leaves the defaults.
    pub(crate) fn begin_connect(
        &self,
        kernel_buffers: Option<usize>,
    ) -> Result<PendingConnect, EchoError> {
        self.begin_connect_from(next_source(self.addr), kernel_buffers)
    }

    fn begin_connect_from(
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

    /// Sleeps for `time`, but not beyond the deadline.
    pub(crate) fn pause(&self, time: Duration) {
        thread::sleep(time.min(self.deadline.saturating_duration_since(Instant::now())));
    }
}

/// A connection that is being established.
#[derive(Debug)]
pub(crate) struct PendingConnect {
    socket: Socket,
    deadline: Instant,
}

impl PendingConnect {
    /// Waits until the connection is established.
    pub(crate) fn complete(self) -> Result<EchoClient, EchoError> {
        let left = time_left(self.deadline).map_err(failed("connect"))?;
        wait_writable(&self.socket, left).map_err(failed("connect"))?;
        if let Some(error) = self.socket.take_error().map_err(failed("connect"))? {
            return Err(failed("connect")(error));
        }
        self.socket.set_nonblocking(false).map_err(failed("connect"))?;
        let stream = TcpStream::from(self.socket);
        Ok(EchoClient { stream, deadline: self.deadline, stamp_read: false, sent: 0, received: 0 })
    }
}

/// A connection on which every echoed byte is compared. The stamp of a server that sends one is
/// decoded and not counted as echo.
#[derive(Debug)]
pub struct EchoClient {
    stream: TcpStream,
    deadline: Instant,
    /// Whether the first bytes were received, and with them the stamp, if there is one.
    stamp_read: bool,
    sent: u64,
    /// Bytes of echo that matched.
    received: u64,
}

impl EchoClient {
    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`EchoError`] if the server ends the connection, or does not read them before the deadline.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written =
                self.set_timeouts().and_then(|()| retry_on_intr(|| self.stream.write(rest)));
            let sending = || format!("sending after {} bytes", self.sent);
            let written = written.map_err(|error| EchoError::during(&sending(), &error))?;
            rest = &rest[written..];
            self.sent += written as u64;
        }
        Ok(())
    }

    /// Receives exactly `bytes`.
    ///
    /// # Errors
    /// [`EchoError`] if other bytes arrive, the stream ends early, or the deadline passes.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut rest = bytes;
        let mut buffer = vec![0; rest.len().min(CHUNK)];
        while !rest.is_empty() {
            let wanted = rest.len().min(CHUNK);
            let len = self.read(&mut buffer[..wanted])?;
            if len == 0 {
                return self.error(format!("the stream ends, {} bytes early", rest.len()));
            }
            if buffer[..len] != rest[..len] {
                let same = buffer.iter().zip(rest).take_while(|(got, sent)| got == sent).count();
                self.received += same as u64;
                return self.error("the next byte is a wrong one".into());
            }
            self.received += len as u64;
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Receives the part of `bytes` that is there already; returns its length.
    ///
    /// # Errors
    /// As [`EchoClient::expect`].
    pub(crate) fn expect_some(&mut self, bytes: &[u8]) -> Result<usize, EchoError> {
        self.stream.set_nonblocking(true).map_err(failed("receive"))?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).map_err(failed("receive"))?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(self.receiving(&error)),
            Ok(_) => {}
        }
        let mut buffer = vec![0; bytes.len().min(CHUNK)];
        let len = self.read(&mut buffer)?;
        if len == 0 {
            return self.error("the stream ends early".into());
        }
        if buffer[..len] != bytes[..len] {
            return self.error("one of the next bytes is a wrong one".into());
        }
        self.received += len as u64;
        Ok(len)
    }

    /// Receives the end of the stream.
    ///
    /// # Errors
    /// [`EchoError`] if more bytes arrive or the deadline passes.
    pub fn expect_end(&mut self) -> Result<(), EchoError> {
        match self.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => self.error("more comes than was sent".into()),
        }
    }

    /// Sends `bytes` and receives their echo.
    ///
    /// # Errors
    /// As [`EchoClient::send`] and [`EchoClient::expect`].
    pub fn round_trip(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        self.send(bytes)?;
        self.expect(bytes)
    }

    /// Sends `bytes` and the end of the stream from another thread and receives the echo meanwhile.
    ///
    /// # Errors
    /// As [`EchoClient::send`] and [`EchoClient::expect`].
    pub fn stream_through(&mut self, bytes: &[u8]) -> Result<(), EchoError> {
        let mut sender = self.try_clone()?;
        thread::scope(|scope| {
            let send = move || sender.send(bytes).and_then(|()| sender.half_close());
            let sent = thread::Builder::new().spawn_scoped(scope, send);
            let sent = sent.map_err(|error| EchoError::no_thread(&error))?;
            let read = self.expect(bytes);
            if read.is_err() {
                self.shutdown_both();
            }
            // An error of reading is the cause; the sender's error then only follows from it.
            let sent = sent.join().unwrap_or_else(|_| Err(EchoError::panicked()));
            read.and(sent)
        })
    }

    /// Ends the sending direction (FIN).
    ///
    /// # Errors
    /// [`EchoError`] if the connection no longer exists.
    pub fn half_close(&self) -> Result<(), EchoError> {
        self.stream.shutdown(Shutdown::Write).map_err(failed("half-close"))
    }

    /// Resets the connection: `SO_LINGER` 0 (socket(7)), then close.
    ///
    /// # Errors
    /// [`EchoError`] if setting the option fails.
    pub fn reset(self) -> Result<(), EchoError> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).map_err(failed("reset"))
    }

    /// Ends both directions, so that a thread that is blocked on the connection returns.
    pub(crate) fn shutdown_both(&self) {
        // It fails only if the connection has ended already.
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// A second handle of the connection, to send from another thread.
    pub(crate) fn try_clone(&self) -> Result<Self, EchoError> {
        let stream = self.stream.try_clone().map_err(failed("dup"))?;
        Ok(Self { stream, ..*self })
    }

    /// Sends the part of `bytes` that the kernel accepts without blocking; returns its length.
    pub(crate) fn send_nonblocking(&mut self, bytes: &[u8]) -> Result<usize, EchoError> {
        self.stream.set_nonblocking(true).map_err(failed("send"))?;
        let written = match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            other => other.map_err(failed("send"))?,
        };
        self.sent += written as u64;
        self.stream.set_nonblocking(false).map_err(failed("send"))?;
        Ok(written)
    }

    /// Sets a receive buffer of 1 MiB.
    pub(crate) fn enlarge_receive_buffer(&self) -> Result<(), EchoError> {
        SockRef::from(&self.stream).set_recv_buffer_size(1 << 20).map_err(failed("SO_RCVBUF"))
    }

    /// Whether the connection is open and has nothing to read.
    pub(crate) fn is_open_and_idle(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads some bytes of echo; the first call also reads the stamp, if there is one.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, EchoError> {
        let len = self.read_bytes(buffer)?;
        if self.stamp_read || len == 0 {
            return Ok(len);
        }
        self.stamp_read = true;
        // No payload contains this byte (see `pattern`).
        if buffer[0] != MAGIC[0] {
            return Ok(len);
        }
        let mut frame = [0; FRAME_LEN];
        let mut filled = len.min(FRAME_LEN);
        frame[..filled].copy_from_slice(&buffer[..filled]);
        while filled < FRAME_LEN {
            match self.read_bytes(&mut frame[filled..])? {
                0 => return self.error("the stream ends within a stamp".into()),
                more => filled += more,
            }
        }
        if let Err(error) = Stamp::decode(&frame) {
            return self.error(format!("it begins like a stamp, but: {error}"));
        }
        if len > FRAME_LEN {
            buffer.copy_within(FRAME_LEN..len, 0);
            return Ok(len - FRAME_LEN);
        }
        self.read_bytes(buffer)
    }

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, EchoError> {
        let read = self.set_timeouts().and_then(|()| retry_on_intr(|| self.stream.read(buffer)));
        read.map_err(|error| self.receiving(&error))
    }

    /// Sets the socket's timeouts to the time left until the deadline.
    fn set_timeouts(&self) -> io::Result<()> {
        let left = Some(time_left(self.deadline)?);
        self.stream.set_read_timeout(left)?;
        self.stream.set_write_timeout(left)
    }

    fn error<T>(&self, message: String) -> Result<T, EchoError> {
        Err(EchoError::Server(format!("after {} bytes of echo: {message}", self.received)))
    }

    fn receiving(&self, error: &io::Error) -> EchoError {
        EchoError::during(&format!("after {} bytes of echo", self.received), error)
    }
}

/// Pseudo-random bytes of `seed` without the first byte of a stamp, so that an echo is never
/// mistaken for a stamp.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Pcg64::seed_from_u64(seed).fill_bytes(&mut bytes);
    for byte in bytes.iter_mut().filter(|byte| **byte == MAGIC[0]) {
        *byte = !MAGIC[0];
    }
    bytes
}

/// Adds to the error of a system call what it was called for.
fn failed(what: &str) -> impl Fn(io::Error) -> EchoError {
    move |error| EchoError::during(what, &error)
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

/// The client address for a server on 127.0.0.0/8, of which every address can be used: each has its
/// own range of ports, so that ports in TIME_WAIT do not exhaust them. `None` for other servers.
fn next_source(addr: SocketAddr) -> Option<IpAddr> {
    const COUNT: usize = 250;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static BLOCK: OnceLock<u8> = OnceLock::new();
    if !matches!(addr.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        return None;
    }
    // Each process uses its own block, so that processes do not compete for the same ports.
    let block = *BLOCK.get_or_init(|| std::process::id().to_le_bytes()[0]);
    let host = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT + 1;
    Some(Ipv4Addr::new(127, 7, block, u8::try_from(host).expect("at most 250")).into())
}

/// Repeats a call that a signal interrupted: with a socket timeout set the kernel does not restart
/// it (signal(7)).
fn retry_on_intr<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
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
    match retry_on_intr(|| Ok(poll(&mut fds, Some(&timeout))?))? {
        0 => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The most bytes of one read.
const CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use uring_echo::stamp::{AcceptMode, ClockDomain, Engine};

    use super::*;

    /// A server that replies `answer` to the first three bytes and closes.
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
        let mut client = answering(answer.to_vec()).connect()?;
        client.round_trip(b"abc")?;
        client.expect_end()
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
    fn every_other_answer_is_an_error_of_its_own() {
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
    fn a_server_that_does_not_answer_is_an_error_at_the_deadline() {
        let mut server = answering(Vec::new());
        server.deadline = Instant::now() + Duration::from_millis(50);
        let mut client = server.connect().unwrap();
        let error = client.round_trip(b"a").unwrap_err().to_string();
        assert!(error.contains("nothing happens any more"), "{error}");
    }

    #[test]
    fn patterns_differ_by_seed_and_never_contain_the_byte_of_a_stamp() {
        assert_ne!(pattern(1, 100), pattern(2, 100));
        assert!(!pattern(3, 10_000).contains(&MAGIC[0]));
    }
}
