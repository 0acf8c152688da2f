//! How much of what a socket took has not arrived.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Bytes that `socket` took and the peer's system has not acknowledged (SIOCOUTQ, tcp(7)): the same
/// as [`Ring::ask_unsent`](super::Ring::ask_unsent), for engines without a ring.
///
/// # Errors
/// What ioctl(2) says: ENOTTY, or EINVAL of a socket that listens.
pub fn unsent_bytes(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which SIOCOUTQ is another name of, writes one int to its argument, and the
    // descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(u32::try_from(bytes).unwrap_or(0))
}
