//! The steps that make a listener, as completions: socket, bind, listen.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;

use super::memory::Memory;
use super::queues::FreeSlot;
use super::{Op, Ring, Token};

impl Ring {
    /// `socket(2)` for TCP of the family of `addr`, close-on-exec (IORING_OP_SOCKET, Linux 5.19).
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn call_socket(&mut self, addr: SocketAddr) -> io::Result<OwnedFd> {
        let domain = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let fd = self.call(|_, _| opcode::Socket::new(domain, kind, libc::IPPROTO_TCP).build())?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just installed this descriptor for us; nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// `bind(2)` (IORING_OP_BIND, Linux 6.11).
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn call_bind(&mut self, socket: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<()> {
        let call = |memory: &mut Memory, slot: &FreeSlot<'_>| {
            let (address, len) = memory.arguments.address(slot, addr);
            opcode::Bind::new(Fd(socket.as_raw_fd()), address, len).build()
        };
        self.call(call).map(drop)
    }

    /// `listen(2)` (IORING_OP_LISTEN, Linux 6.11).
    ///
    /// # Errors
    /// What listen(2) says.
    pub fn call_listen(&mut self, socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
        self.call(|_, _| opcode::Listen::new(Fd(socket.as_raw_fd()), backlog).build()).map(drop)
    }

    /// Submits one entry on an otherwise idle ring and waits for its completion. A descriptor in it
    /// need only be borrowed: if waiting fails, nothing that is queued is submitted any more.
    fn call(&mut self, build: impl FnOnce(&mut Memory, &FreeSlot<'_>) -> Entry) -> io::Result<u32> {
        let token = Token::new(Op::Call, 0, 0);
        self.queue(Op::Call, token, build);
        let mut completions = Vec::with_capacity(8);
        loop {
            if let Err(error) = self.wait(None) {
                self.broken = true;
                return Err(io::Error::other(error));
            }
            self.reap(&mut completions);
            if let Some(done) = completions.iter().find(|done| done.token == token) {
                return done.result.map_err(io::Error::from);
            }
        }
    }
}
