//! Servers of all characters, made of blocking sockets and threads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use uring_echo::clock::{monotonic_ns, realtime_ns};
use uring_echo::stamp::{AcceptMode, ClockDomain, Engine, Stamp};

/// What a server does with one connection, accepted at this monotonic instant.
type Manner = fn(TcpStream, u64) -> io::Result<()>;

/// A server that serves each connection in a thread until it is dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// A plain echo.
    pub(crate) fn echoing(addr: &str) -> Self {
        Self::start(addr, |stream, _| echo(&stream, |_| {}))
    }

    /// A stamp, then an echo.
    pub(crate) fn stamping(addr: &str) -> Self {
        Self::start(addr, |mut stream, accepted_ns| {
            stream.write_all(&stamp(accepted_ns))?;
            echo(&stream, |_| {})
        })
    }

    /// A stamp of an hour ago, then an echo.
    pub(crate) fn backdating(addr: &str) -> Self {
        Self::start(addr, |mut stream, accepted_ns| {
            stream.write_all(&stamp(accepted_ns.saturating_sub(3_600_000_000_000)))?;
            echo(&stream, |_| {})
        })
    }

    /// An echo with one bit wrong.
    pub(crate) fn garbling(addr: &str) -> Self {
        Self::start(addr, |stream, _| echo(&stream, |bytes| bytes[0] ^= 1))
    }

    /// Reads and never answers.
    pub(crate) fn swallowing(addr: &str) -> Self {
        Self::start(addr, |mut stream, _| io::copy(&mut stream, &mut io::sink()).map(drop))
    }

    /// Closes in good order, at once.
    pub(crate) fn closing(addr: &str) -> Self {
        Self::start(addr, |stream, _| stream.shutdown(Shutdown::Both))
    }

    /// Resets once it has been spoken to.
    pub(crate) fn resetting(addr: &str) -> Self {
        Self::start(addr, |mut stream, _| {
            stream.read_exact(&mut [0])?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn start(addr: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                let accepted_ns = monotonic_ns();
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Clients end as they like; a server of these tests does not mind.
                thread::spawn(move || drop(manner(stream, accepted_ns)));
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

/// A socket that nobody accepts from.
pub(crate) struct Idle {
    pub(crate) addr: SocketAddr,
    listener: Socket,
    queued: Vec<TcpStream>,
}

/// Nobody listens there.
pub(crate) fn refusing() -> Idle {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    Idle { addr, listener: socket, queued: Vec::new() }
}

/// With room for all.
pub(crate) fn idle(backlog: i32) -> Idle {
    let idle = refusing();
    idle.listener.listen(backlog).unwrap();
    idle
}

/// With a full queue: Linux queues one more than the backlog.
pub(crate) fn deaf() -> Idle {
    let mut full = idle(1);
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

fn stamp(accepted_monotonic_ns: u64) -> Vec<u8> {
    let stamp = Stamp {
        worker: 0,
        engine: Engine::Epoll,
        accept: AcceptMode::Shared,
        accepted_monotonic_ns,
        accepted_realtime_ns: realtime_ns(),
        sequence: 0,
        clock_domain: ClockDomain::current().unwrap(),
    };
    stamp.encode().to_vec()
}
