//! Making listeners: socket, bind and listen, in this order; an error names the step that failed.

mod inherited;
mod steering;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

pub(crate) use self::inherited::admin_listener;
pub use self::inherited::{AdoptError, adopt};
use crate::ring::{Ring, RingError, Setup};
use crate::sys::procfs;

/// A step that failed, with the address it was for.
#[derive(Debug, thiserror::Error)]
#[error("{step} {addr}: {source}{hint}")]
pub struct ListenError {
    /// `socket`, `setsockopt`, `bind` or `listen`.
    pub step: &'static str,
    /// The address asked for.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: io::Error,
    /// The likely cause and what to do, or nothing.
    pub hint: String,
}

/// The listeners of one address.
#[derive(Debug)]
pub struct AddressListeners {
    /// The bound address, with the port the kernel chose where 0 was asked for.
    pub addr: SocketAddr,
    /// One socket for each queue: each worker's own, or a single one that all share.
    pub sockets: Vec<OwnedFd>,
}

/// Makes listeners: by completions where the kernel offers them, by plain calls otherwise.
#[derive(Debug)]
pub struct ListenerBuilder {
    ring: Option<Ring>,
    /// What is done by plain calls, for the log.
    pub degraded: Option<String>,
}

impl ListenerBuilder {
    /// Uses a ring of its own for IORING_OP_SOCKET (Linux 5.19), BIND and LISTEN (Linux 6.11),
    /// where the kernel has them.
    ///
    /// # Errors
    /// If io_uring is not available at all.
    pub fn by_completion() -> Result<Self, RingError> {
        let ring = Ring::new(&Setup::CALLS)?;
        if ring.features().socket && ring.features().bind_listen {
            return Ok(Self { ring: Some(ring), degraded: None });
        }
        let degraded = "socket, bind and listen as plain calls (completions need Linux 6.11)";
        Ok(Self { ring: None, degraded: Some(degraded.to_owned()) })
    }

    /// Plain system calls.
    #[must_use]
    pub const fn plain() -> Self {
        Self { ring: None, degraded: None }
    }

    /// Opens `queues` listeners on `addr`, with SO_REUSEPORT if there are several.
    ///
    /// # Errors
    /// The first step that fails, with its name and the address.
    pub fn open(
        &mut self,
        addr: SocketAddr,
        backlog: i32,
        queues: usize,
    ) -> Result<AddressListeners, ListenError> {
        let first = self.listener(
            addr,
            backlog,
            ReusePort { while_binding: false, afterwards: queues > 1 },
        )?;
        let bound = SockRef::from(&first).local_addr().map_err(at("getsockname", addr))?;
        let addr = bound.as_socket().unwrap_or(addr);
        let mut sockets = vec![first];
        for _ in 1..queues {
            sockets.push(self.listener(
                addr,
                backlog,
                ReusePort { while_binding: true, afterwards: true },
            )?);
        }
        Ok(AddressListeners { addr, sockets })
    }

    fn listener(
        &mut self,
        addr: SocketAddr,
        backlog: i32,
        reuse_port: ReusePort,
    ) -> Result<OwnedFd, ListenError> {
        let socket = self.socket(addr).map_err(at("socket", addr))?;
        options(&socket, addr, reuse_port.while_binding).map_err(at("setsockopt", addr))?;
        self.bind(&socket, addr).map_err(at("bind", addr))?;
        let shared = SockRef::from(&socket).set_reuse_port(reuse_port.afterwards);
        shared.map_err(at("setsockopt", addr))?;
        self.listen(&socket, backlog).map_err(at("listen", addr))?;
        Ok(socket)
    }

    fn socket(&mut self, addr: SocketAddr) -> io::Result<OwnedFd> {
        match &mut self.ring {
            Some(ring) => ring.call_socket(addr),
            None => Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))
                .map(Into::into),
        }
    }

    /// A process that was killed holds its port until the kernel has torn down its rings, some
    /// milliseconds after its end, so EADDRINUSE is believed only once it has lasted.
    fn bind(&mut self, socket: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
        for pause_ms in BIND_PAUSES_MS {
            match self.try_bind(socket, addr) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRINUSE) => {
                    thread::sleep(Duration::from_millis(pause_ms));
                }
                bound => return bound,
            }
        }
        self.try_bind(socket, addr)
    }

    fn try_bind(&mut self, socket: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
        match &mut self.ring {
            Some(ring) => ring.call_bind(socket.as_fd(), addr),
            None => SockRef::from(socket).bind(&SockAddr::from(addr)),
        }
    }

    fn listen(&mut self, socket: &OwnedFd, backlog: i32) -> io::Result<()> {
        match &mut self.ring {
            Some(ring) => ring.call_listen(socket.as_fd(), backlog),
            None => SockRef::from(socket).listen(backlog),
        }
    }
}

/// Whether a socket lets others of this user bind the same address. The first one does so only
/// after its own bind, so that a port in use by another server is an error.
#[derive(Clone, Copy)]
struct ReusePort {
    while_binding: bool,
    afterwards: bool,
}

/// About a second.
const BIND_PAUSES_MS: [u64; 12] = [5, 10, 20, 40, 80, 100, 100, 130, 130, 130, 130, 130];

/// Bytes that may wait unsent in a socket (TCP_NOTSENT_LOWAT, tcp(7)). Without it a socket whose
/// buffer has grown to megabytes takes more only once a third of it is free: a peer that reads
/// 20 kB/s seemed not to read for a minute, and held that much kernel memory.
const UNSENT_MAX: u32 = 128 << 10;

/// TCP_NODELAY and the like are inherited by every accepted socket, which saves a call for each
/// (Linux).
fn options(socket: &OwnedFd, addr: SocketAddr, reuse_port: bool) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    Ok(())
}

fn at(step: &'static str, addr: SocketAddr) -> impl FnOnce(io::Error) -> ListenError {
    move |source| {
        let hint = hint(step, addr, &source);
        ListenError { step, addr, source, hint }
    }
}

fn hint(step: &str, addr: SocketAddr, error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => {
            format!(
                "; somebody is there, for a second already: ss -ltnp 'sport = :{}'",
                addr.port()
            )
        }
        Some(Errno::ACCESS | Errno::PERM) if step == "bind" && addr.port() < 1024 => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE or a lower \
             net.ipv4.ip_unprivileged_port_start"
                .to_owned()
        }
        Some(Errno::ADDRNOTAVAIL) => {
            format!("; no interface here has the address {} (ip addr)", addr.ip())
        }
        Some(Errno::AFNOSUPPORT) => "; this kernel or container has no IPv6".to_owned(),
        _ => String::new(),
    }
}

/// What `backlog` really amounts to: listen(2) caps it at `net.core.somaxconn`. The queue holds
/// one more than this, since the kernel's test for a full queue is `>`. `None` if not readable.
#[must_use]
pub fn effective_backlog(backlog: i32) -> Option<u32> {
    Some(u32::try_from(backlog).ok()?.min(procfs::somaxconn()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;

    fn each_way() -> Vec<ListenerBuilder> {
        let mut ways = vec![ListenerBuilder::plain()];
        match ListenerBuilder::by_completion() {
            Ok(builder) => ways.push(builder),
            Err(error) => assert!(std::env::var_os("REQUIRE_URING").is_none(), "{error}"),
        }
        ways
    }

    #[test]
    fn queues_of_one_address_share_its_port() {
        for mut builder in each_way() {
            for addr in ["127.0.0.1:0", "[::1]:0"] {
                let listening =
                    builder.open(addr.parse().expect("an address"), 5, 3).expect("open");
                assert_eq!(listening.sockets.len(), 3);
                assert_ne!(listening.addr.port(), 0);
                TcpStream::connect(listening.addr).expect("listening");
            }
        }
    }

    #[test]
    fn a_port_that_becomes_free_soon_is_taken() {
        for mut builder in each_way() {
            let taken = builder.open("127.0.0.1:0".parse().expect("valid"), 5, 1).expect("open");
            let addr = taken.addr;
            let (tried, first_try) = mpsc::channel();
            let holder = thread::spawn(move || {
                first_try.recv().expect("a message");
                thread::sleep(Duration::from_millis(20));
                drop(taken);
            });
            tried.send(()).expect("the holder waits");
            assert_eq!(builder.open(addr, 5, 1).expect("after a while").addr, addr);
            holder.join().expect("no panic");
        }
    }

    #[test]
    fn a_failing_step_names_itself_and_the_address() {
        for mut builder in each_way() {
            let taken = builder.open("127.0.0.1:0".parse().expect("valid"), 5, 2).expect("open");
            for queues in [1, 2] {
                let error = builder.open(taken.addr, 5, queues).expect_err("in use");
                let text = error.to_string();
                assert!(text.starts_with(&format!("bind {}: ", taken.addr)), "{text}");
                assert!(text.contains("ss -ltnp"), "{text}");
            }
            let error = builder.open("192.0.2.1:7".parse().expect("valid"), 5, 1);
            let text = error.expect_err("not ours").to_string();
            assert!(text.contains("no interface here has the address 192.0.2.1"), "{text}");
        }
    }
}
