//! Whose fault it is that there was no echo: the server's, or that of this machine.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use uring_echo::sys::descriptors;

/// Why there was no echo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EchoError {
    /// What the server did instead.
    #[error("{0}")]
    Server(String),
    /// What this machine lacks, with the remedy: it says nothing of the server.
    #[error("{0}")]
    Here(String),
}

impl EchoError {
    /// A system call failed during `what`.
    pub fn during(what: &str, error: &io::Error) -> Self {
        match remedy(error) {
            Some(remedy) => Self::Here(format!("{what}: {error}: {remedy}")),
            None => Self::Server(format!("{what}: {}", describe(error))),
        }
    }

    /// A thread of the client could not be started.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        Self::Here(format!(
            "a client thread cannot be started: {error}: see ulimit -u and the pids limit of the \
             control group"
        ))
    }

    /// A thread of the client ended by a defect of its own.
    pub(crate) fn panicked() -> Self {
        Self::Here("a client thread panicked: a defect of loadgen, please report it".into())
    }
}

/// The text of an error, for the user.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nothing happens any more".into(),
        ErrorKind::ConnectionReset => "the server resets the connection".into(),
        ErrorKind::BrokenPipe => "the server has closed the connection".into(),
        ErrorKind::ConnectionRefused => "refused".into(),
        _ => error.to_string(),
    }
}

/// What is missing and how it can be had, if that is what the error says.
fn remedy(error: &io::Error) -> Option<String> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(format!(
            "this process may have {} descriptors and has them open: raise that with ulimit -n",
            descriptors::limit().enforced()
        )),
        Errno::NFILE => Some(
            "all descriptors of this machine are open: raise fs.file-max, or end what holds them"
                .into(),
        ),
        Errno::NOBUFS | Errno::NOMEM => Some(
            "the kernel has no memory for another socket here: see net.ipv4.tcp_mem and the memory \
             limit of the control group"
                .into(),
        ),
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => Some(
            "no local port is free: widen net.ipv4.ip_local_port_range, or wait a minute for those \
             in TIME_WAIT"
                .into(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_here_has_a_remedy_and_what_the_server_does_has_none() {
        let lacking = [
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOBUFS, "tcp_mem"),
            (Errno::NOMEM, "tcp_mem"),
            (Errno::ADDRNOTAVAIL, "ip_local_port_range"),
        ];
        for (errno, expected) in lacking {
            let remedy = remedy(&errno.into()).unwrap_or_default();
            assert!(remedy.contains(expected), "{errno:?}: {remedy}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::PIPE, Errno::AGAIN] {
            assert_eq!(remedy(&errno.into()), None, "{errno:?}");
        }
    }
}
