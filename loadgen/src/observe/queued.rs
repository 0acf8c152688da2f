//! The connections that wait to be accepted on one port: a walk through all sockets of the machine.

use std::io;
use std::net::SocketAddr;

use rustix::time::{ClockId, clock_getres};
use uring_echo::clock::monotonic_ns;

use super::diag::{AF_INET, AF_INET6, Request, SocketState, addresses, last_sent_ms};
use super::netlink::NetlinkSocket;

/// A connection in an accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The server's end.
    pub server: SocketAddr,
    /// The client's.
    pub client: SocketAddr,
    /// When its handshake ended, monotonic nanoseconds, to within [`QueuedDump::resolution_ns`].
    pub since_ns: u64,
    /// When it was seen waiting.
    pub seen_ns: u64,
}

/// Lists queued connections; 160 µs on an idle machine, and 90 ns for each socket that there is.
#[derive(Debug)]
pub struct QueuedDump {
    netlink: NetlinkSocket,
    requests: Vec<Request>,
}

impl QueuedDump {
    /// For the listeners of `port`: of IPv6 ones also where they take IPv4, and of IPv4.
    ///
    /// # Errors
    /// As [`DiagSocket::open`](super::DiagSocket::open).
    pub fn open(port: u16, v4: bool, v6: bool) -> io::Result<Self> {
        let families = [(v4, AF_INET), (v6, AF_INET6)].into_iter().filter(|(wanted, _)| *wanted);
        let requests = families.map(|(_, family)| Request::established(family, port)).collect();
        Ok(Self { netlink: NetlinkSocket::open()?, requests })
    }

    /// Adds every connection that waits now to `found`.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn take(&mut self, found: &mut Vec<Queued>) -> io::Result<()> {
        for request in &mut self.requests {
            let before_ns = monotonic_ns();
            self.netlink.dump(&mut request.0, |data| {
                let Some(queued) = queued(data, before_ns) else { return };
                found.push(queued);
            })?;
        }
        Ok(())
    }

    /// How exactly the kernel knows since when a connection waits: its clock tick.
    #[must_use]
    pub fn resolution_ns() -> u64 {
        let tick = clock_getres(ClockId::MonotonicCoarse);
        u64::try_from(tick.tv_nsec).unwrap_or(0)
    }
}

fn queued(data: &[u8], seen_ns: u64) -> Option<Queued> {
    // One that a process holds has an inode.
    let _waiting = SocketState::parse(data).filter(|socket| socket.inode == 0)?;
    let [server, client] = addresses(data)?;
    let age_ns = u64::from(last_sent_ms(data)?) * 1_000_000;
    Some(Queued { server, client, since_ns: seen_ns.saturating_sub(age_ns), seen_ns })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn check(listen: &str, connect: &str, v4: bool) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = SocketAddr::new(connect.parse().unwrap(), port);
        let _accepted = (TcpStream::connect(server).unwrap(), listener.accept().unwrap());
        let client = TcpStream::connect(server).unwrap();
        let connected_ns = monotonic_ns();
        thread::sleep(Duration::from_millis(60));
        let mut found = Vec::new();
        QueuedDump::open(port, v4, !v4).unwrap().take(&mut found).unwrap();
        let [one] = found[..] else { panic!("{found:?}") };
        assert_eq!((one.server, one.client), (server, client.local_addr().unwrap()));
        // A coarse clock on both sides, and milliseconds.
        let allowed = 2 * QueuedDump::resolution_ns() + 2_000_000;
        assert!(one.since_ns.abs_diff(connected_ns) <= allowed, "{one:?} {connected_ns}");
    }

    #[test]
    fn connections_that_wait_are_listed_with_when_they_came() {
        check("127.0.0.1:0", "127.0.0.1", true);
        check("[::1]:0", "::1", false);
        check("[::]:0", "127.0.0.1", false);
    }
}
