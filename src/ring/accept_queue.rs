//! The accept queue of a listening socket, as the kernel counts it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// What one listening socket's queue holds and has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// The backlog in force; the queue holds one more.
    pub limit: u32,
    /// Handshakes and segments dropped since the socket exists, most of them because the queue was
    /// full.
    pub drops: u32,
}

/// Positions in `struct tcp_info` (linux/tcp.h), in words: of a listening socket `tcpi_unacked` is
/// the depth of its queue and `tcpi_sacked` the limit.
const UNACKED: usize = 6;
const SACKED: usize = 7;
/// Position in the array of SO_MEMINFO (linux/sock_diag.h, SK_MEMINFO_DROPS).
const DROPS: usize = 8;

/// Asks for the queue of `listener`: TCP_INFO (tcp(7)) and SO_MEMINFO (Linux 4.12). Without
/// privileges and without a netlink socket.
///
/// # Errors
/// What getsockopt(2) says.
pub fn accept_queue(listener: BorrowedFd<'_>) -> Result<AcceptQueue, Errno> {
    let info: [u32; 8] = words(listener, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let memory: [u32; 9] = words(listener, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(AcceptQueue { depth: info[UNACKED], limit: info[SACKED], drops: memory[DROPS] })
}

/// The first words of an option's value; those that this kernel does not have are 0.
fn words<const N: usize>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> Result<[u32; N], Errno> {
    let mut value = [0_u32; N];
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("a few words");
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many, any bytes make
    // words, and the descriptor is open while it is borrowed.
    let result =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_queue_is_as_deep_as_connections_wait_and_drops_are_those_of_the_socket() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).expect("bound");
        socket.listen(2).expect("listening");
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr().expect("bound");
        let queue = || accept_queue(listener.as_fd()).expect("a listener");
        assert_eq!(queue(), AcceptQueue { depth: 0, limit: 2, drops: 0 });
        let waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).expect("queued")).collect();
        assert_eq!(queue(), AcceptQueue { depth: 3, limit: 2, drops: 0 });
        let full = TcpStream::connect_timeout(&addr, std::time::Duration::from_millis(200));
        assert!(full.is_err() && queue().drops > 0, "{:?}", queue());
        drop(waiting);
    }
}
