//! Connections go to the worker on the CPU that received them: the listeners of one address are
//! told which CPU each of them serves.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_incoming_cpu;

use super::{AddressListeners, ListenError, at};
use crate::ring;

/// No CPU: what a socket that was told nothing has.
const NONE: u32 = u32::MAX;

impl AddressListeners {
    /// Has the kernel prefer the `n`-th listener for what arrives on the `n`-th CPU
    /// (SO_INCOMING_CPU, socket(7); among sockets that share an address since Linux 6.2).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn prefer_cpus(&self, cpus: &[u32]) -> Result<(), ListenError> {
        for (socket, cpu) in self.sockets.iter().zip(cpus) {
            set_socket_incoming_cpu(socket, *cpu).map_err(failed("SO_INCOMING_CPU", self.addr))?;
        }
        Ok(())
    }

    /// Has a filter that all of them share choose the `n`-th for what arrives on the `n`-th CPU.
    /// They must have begun to listen in this order.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn filter_by_cpu(&self, cpus: &[u32]) -> Result<(), ListenError> {
        let Some(first) = self.sockets.first().filter(|_| self.sockets.len() > 1) else {
            return Ok(());
        };
        ring::steer_by_filter(first.as_fd(), cpus)
            .map_err(failed("SO_ATTACH_REUSEPORT_CBPF", self.addr))
    }

    /// Undoes both, as far as it was done, by whichever process.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn forget_cpus(&self) -> Result<(), ListenError> {
        for socket in &self.sockets {
            set_socket_incoming_cpu(socket, NONE).map_err(failed("SO_INCOMING_CPU", self.addr))?;
        }
        match self.sockets.first().map(|socket| ring::forget_cpus(socket.as_fd())) {
            // There was no filter, or nobody to share with.
            None | Some(Ok(()) | Err(Errno::NOENT | Errno::INVAL)) => Ok(()),
            Some(Err(error)) => Err(failed("SO_DETACH_REUSEPORT_BPF", self.addr)(error)),
        }
    }
}

fn failed(option: &'static str, addr: SocketAddr) -> impl FnOnce(Errno) -> ListenError {
    move |error| ListenError {
        hint: format!(" ({option})"),
        ..at("setsockopt", addr)(error.into())
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::socket_incoming_cpu;

    use super::super::ListenerBuilder;
    use super::*;

    #[test]
    fn what_was_told_is_forgotten() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listening = ListenerBuilder::plain().open(any, 5, 2).expect("open");
        let told = || {
            let sockets = listening.sockets.iter();
            sockets.map(|socket| socket_incoming_cpu(socket).expect("known")).collect::<Vec<_>>()
        };
        listening.filter_by_cpu(&[0, 1]).expect("attached");
        listening.prefer_cpus(&[0, 1]).expect("told");
        assert_eq!(told(), [0, 1]);
        listening.forget_cpus().expect("forgotten");
        listening.forget_cpus().expect("nothing left to forget");
        assert_eq!(told(), [NONE, NONE]);
        let detached = ring::forget_cpus(listening.sockets[1].as_fd());
        assert_eq!(detached, Err(Errno::NOENT), "no filter is left");
    }

    #[test]
    fn one_listener_needs_no_filter() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let alone = ListenerBuilder::plain().open(any, 5, 1).expect("open");
        alone.filter_by_cpu(&[0]).expect("nothing to do");
        alone.forget_cpus().expect("nothing to do");
    }
}
