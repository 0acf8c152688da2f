//! Client sockets without a descriptor of the process: made in the ring's table, prepared, and then
//! connected like any other.

use std::net::SocketAddr;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::DestinationSlot;

use super::direct::Direct;
use super::{Op, Ring, Token};

/// What a client socket can be told before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// Its close resets the connection, so that no TIME-WAIT is left (SO_LINGER with zero seconds).
    ResetOnClose,
    /// A bind to an address leaves the port to connect (IP_BIND_ADDRESS_NO_PORT, Linux 4.2).
    PortByConnect,
}

/// For options that are on or off.
static ON: libc::c_int = 1;
static AT_ONCE: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

impl SocketOption {
    /// Level, name and value for setsockopt(2); the value lives as long as the program.
    fn value(self) -> (libc::c_int, libc::c_int, *const libc::c_void, usize) {
        match self {
            Self::ResetOnClose => {
                let value = (&raw const AT_ONCE).cast();
                (libc::SOL_SOCKET, libc::SO_LINGER, value, size_of::<libc::linger>())
            }
            Self::PortByConnect => {
                let value = (&raw const ON).cast();
                (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, value, size_of::<libc::c_int>())
            }
        }
    }
}

impl Ring {
    /// Makes a TCP socket of the family of `addr` in a free slot of the ring's table, which the
    /// completion's result names for [`Self::direct`]; ENFILE if there is none (IORING_OP_SOCKET,
    /// Linux 5.19).
    pub fn open_direct(&mut self, addr: SocketAddr, token: Token) {
        let domain = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        self.queue(Op::Socket, token, |_, _| {
            opcode::Socket::new(domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)
                .file_index(Some(DestinationSlot::auto_target()))
                .build()
        });
    }

    /// Sets an option of a socket (SOCKET_URING_OP_SETSOCKOPT, Linux 6.7). Carried out before
    /// whatever is queued after it; completes only when it fails.
    pub fn prepare(&mut self, socket: Direct, option: SocketOption, token: Token) {
        let (level, name, value, len) = option.value();
        self.queue(Op::Prepare, token, |memory, _| {
            let (level, name) = (level.cast_unsigned(), name.cast_unsigned());
            let len = u32::try_from(len).expect("a few bytes");
            let socket = memory.directs.slot(socket);
            let entry = opcode::SetSockOpt::new(socket, level, name, value, len).build();
            entry.flags(Flags::SKIP_SUCCESS)
        });
    }

    /// Binds a socket (IORING_OP_BIND, Linux 6.11), in order and with a completion as
    /// [`Self::prepare`].
    pub fn bind_direct(&mut self, socket: Direct, addr: SocketAddr, token: Token) {
        self.queue(Op::Prepare, token, |memory, slot| {
            let (address, len) = memory.arguments.address(slot, addr);
            let socket = memory.directs.slot(socket);
            opcode::Bind::new(socket, address, len).build().flags(Flags::SKIP_SUCCESS)
        });
    }
}
