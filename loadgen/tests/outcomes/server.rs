//! Servers with every behaviour that an outcome needs, made of blocking sockets and threads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use uring_echo::clock::monotonic_ns;

use crate::stamp::stamp;

/// What a server does with one connection, which it accepted at this monotonic instant.
type Behaviour = fn(TcpStream, u64) -> io::Result<()>;

/// A server that serves each connection in a thread, until this value is dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Echoes.
    pub(crate) fn echoing(addr: &str) -> Self {
        Self::start(addr, |stream, _| echo(&stream, |_| {}))
    }

    /// Sends a stamp, then echoes.
    pub(crate) fn stamping(addr: &str) -> Self {
        Self::start(addr, |mut stream, accepted_ns| {
            stream.write_all(&stamp(accepted_ns))?;
            echo(&stream, |_| {})
        })
    }

    /// Sends a stamp with an accept instant of an hour ago, then echoes.
    pub(crate) fn backdating(addr: &str) -> Self {
        Self::start(addr, |mut stream, accepted_ns| {
            stream.write_all(&stamp(accepted_ns.saturating_sub(3_600_000_000_000)))?;
            echo(&stream, |_| {})
        })
    }

    /// Echoes with one bit changed.
    pub(crate) fn corrupting(addr: &str) -> Self {
        Self::start(addr, |stream, _| echo(&stream, |bytes| bytes[0] ^= 1))
    }

    /// Reads and never sends.
    pub(crate) fn discarding(addr: &str) -> Self {
        Self::start(addr, |mut stream, _| io::copy(&mut stream, &mut io::sink()).map(drop))
    }

    /// Closes at once, by FIN.
    pub(crate) fn closing(addr: &str) -> Self {
        Self::start(addr, |stream, _| stream.shutdown(Shutdown::Both))
    }

    /// Reads the first message and closes, by FIN.
    pub(crate) fn finishing(addr: &str) -> Self {
        Self::start(addr, |mut stream, _| stream.read_exact(&mut [0; 64]))
    }

    /// Resets after the first byte received.
    pub(crate) fn resetting(addr: &str) -> Self {
        Self::start(addr, |mut stream, _| {
            stream.read_exact(&mut [0])?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        })
    }

    /// Accepts all that wait, once per `pause`, and greets each with a line that nobody asked for.
    pub(crate) fn greeting_after(addr: &str, pause: Duration) -> Self {
        Self::start_pausing(addr, pause, |mut stream, _| {
            stream.write_all(b"220 hello\r\n")?;
            echo(&stream, |_| {})
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn start(addr: &str, behaviour: Behaviour) -> Self {
        Self::start_pausing(addr, Duration::ZERO, behaviour)
    }

    fn start_pausing(addr: &str, pause: Duration, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            let mut next = Instant::now();
            loop {
                if Instant::now() >= next {
                    thread::sleep(pause);
                    next = Instant::now() + pause / 10;
                }
                let (stream, _) = listener.accept().unwrap();
                let accepted_ns = monotonic_ns();
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // An error means that the client has closed or reset, which these tests expect.
                thread::spawn(move || drop(behaviour(stream, accepted_ns)));
            }
        });
        Self { addr, stop, accepting: Some(accepting) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        TcpStream::connect(self.addr).unwrap();
        self.accepting.take().unwrap().join().unwrap();
    }
}

/// A bound socket from which no connection is accepted.
pub(crate) struct NeverAccepting {
    pub(crate) addr: SocketAddr,
    listener: Socket,
    queued: Vec<TcpStream>,
}

/// Bound but not listening: connections are refused.
pub(crate) fn refusing() -> NeverAccepting {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    NeverAccepting { addr, listener: socket, queued: Vec::new() }
}

/// Listening with an empty accept queue.
pub(crate) fn never_accepting(backlog: i32) -> NeverAccepting {
    let server = refusing();
    server.listener.listen(backlog).unwrap();
    server
}

/// Listening with a full accept queue: Linux queues one connection more than the backlog.
pub(crate) fn full_queue() -> NeverAccepting {
    let mut full = never_accepting(1);
    full.queued = (0..2).map(|_| TcpStream::connect(full.addr).unwrap()).collect();
    full
}

fn echo(mut stream: &TcpStream, change: impl Fn(&mut [u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        change(&mut buffer[..len]);
        stream.write_all(&buffer[..len])?;
    }
}
