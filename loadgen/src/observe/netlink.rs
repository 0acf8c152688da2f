//! A netlink socket that queries the kernel's socket tables (netlink(7), sock_diag(7)).
//!
//! The kernel processes a request inside `send` and leaves the answer in the receive queue, so one
//! query costs two system calls and never blocks.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use uring_echo::clock::monotonic_ns;

/// Bytes of the header before each message (`struct nlmsghdr`).
pub(super) const HEADER_LEN: usize = 16;

/// Message type of a request by address family, `SOCK_DIAG_BY_FAMILY` in linux/sock_diag.h.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Flag of every request.
pub(super) const NLM_F_REQUEST: u16 = 0x1;

/// Flag of a request for every matching entry (`NLM_F_ROOT | NLM_F_MATCH`).
pub(super) const NLM_F_DUMP: u16 = 0x300;

/// A `NETLINK_SOCK_DIAG` socket. Needs no privilege.
#[derive(Debug)]
pub(super) struct NetlinkSocket {
    fd: OwnedFd,
    sequence: u32,
    processed_ns: u64,
    answer: Box<[u8]>,
}

impl NetlinkSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` or `EPROTONOSUPPORT` where the kernel lacks sock_diag or a sandbox denies it.
    pub(super) fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
        let answer = vec![0; ANSWER_LEN].into_boxed_slice();
        Ok(Self { fd, sequence: 0, processed_ns: 0, answer })
    }

    /// Opens a socket that receives an entry for each TCP socket that is destroyed (the groups
    /// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`).
    ///
    /// # Errors
    /// As [`open`](Self::open), or the error of bind(2).
    pub(super) fn of_destroyed() -> io::Result<Self> {
        let socket = Self::open()?;
        rustix::net::bind(&socket.fd, &netlink::SocketAddrNetlink::new(0, DESTROYED_TCP))?;
        Ok(socket)
    }

    /// Passes the entries that have arrived unasked to `each`, at most `most` datagrams of them.
    ///
    /// # Errors
    /// The error of recv(2); `ENOBUFS` where entries were lost.
    pub(super) fn received(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        for _ in 0..most {
            let len = match self.receive() {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            for message in messages(&self.answer[..len]) {
                if let Body::Data(data) = message.body {
                    each(data);
                }
            }
        }
        Ok(())
    }

    /// When the kernel had processed the last request, monotonic nanoseconds.
    pub(super) fn processed_ns(&self) -> u64 {
        self.processed_ns
    }

    /// Sends a request that has one answer and passes the answer to `read`; `None` where the kernel
    /// found no entry (`ENOENT`). Writes the sequence number into `request`.
    ///
    /// # Errors
    /// The error of `send` or `recv`, or an error other than `ENOENT` in the kernel's answer.
    pub(super) fn query<T>(
        &mut self,
        request: &mut [u8],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let sequence = self.send(request)?;
        loop {
            let len = self.receive()?;
            // Answers to earlier requests are skipped.
            let ours = messages(&self.answer[..len]).find(|message| message.sequence == sequence);
            match ours.map(|message| message.body) {
                None => {}
                Some(Body::Data(data)) => return read(data).map(Some).ok_or_else(malformed_answer),
                Some(Body::Done(0)) => return Ok(None),
                Some(Body::Done(errno)) if errno == NOT_FOUND => return Ok(None),
                Some(Body::Done(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Requests every matching entry and passes each to `each`.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) fn dump(
        &mut self,
        request: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let sequence = self.send(request)?;
        loop {
            let len = self.receive()?;
            let ours = messages(&self.answer[..len]).filter(|m| m.sequence == sequence);
            for message in ours {
                match message.body {
                    Body::Data(data) => each(data),
                    Body::Done(0) => return Ok(()),
                    Body::Done(errno) if errno == NOT_FOUND => return Ok(()),
                    Body::Done(errno) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }

    fn send(&mut self, request: &mut [u8]) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        request[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&self.sequence.to_ne_bytes());
        rustix::io::retry_on_intr(|| send(&self.fd, request, SendFlags::empty()))?;
        self.processed_ns = monotonic_ns();
        Ok(self.sequence)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let answer = &mut self.answer[..];
        let (len, whole) =
            rustix::io::retry_on_intr(|| recv(&self.fd, &mut *answer, RecvFlags::DONTWAIT))?;
        if whole > len {
            return Err(malformed_answer());
        }
        Ok(len)
    }
}

/// The header of a request of `len` bytes in total; sending it sets the sequence number.
pub(super) fn header(len: usize, flags: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let len = u32::try_from(len).expect("a request is a few dozen bytes");
    header[0..4].copy_from_slice(&len.to_ne_bytes());
    header[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    header[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    header
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    sequence: u32,
    body: Body<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Body<'a> {
    /// One entry.
    Data(&'a [u8]),
    /// The end, with an errno or 0.
    Done(i32),
}

/// The messages in `bytes`, up to the first that is cut short.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = bytes.get(..len).filter(|message| message.len() >= HEADER_LEN)?;
        // The next message starts at a multiple of four (NLMSG_ALIGN).
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        let data = &message[HEADER_LEN..];
        let body = match u16_at(message, 4)? {
            NLMSG_ERROR | NLMSG_DONE => Body::Done(errno_at(data)),
            _ => Body::Data(data),
        };
        Some(Message { sequence: u32_at(message, SEQUENCE_AT)?, body })
    })
}

/// The kernel writes errors as negative numbers; a DONE message without one means success.
fn errno_at(data: &[u8]) -> i32 {
    data.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes).wrapping_neg())
}

/// The native-endian number at offset `at`; `None` past the end of `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The native-endian number at offset `at`; `None` past the end of `bytes`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn malformed_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's sock_diag answer makes no sense")
}

/// A dump arrives in parts of at most this size (`NLMSG_GOODSIZE` limits, 32 KiB since 4.6).
const ANSWER_LEN: usize = 32 * 1024;
const SEQUENCE_AT: usize = 8;
/// Bits of groups 1 and 3 of linux/sock_diag.h, which are those of TCP.
const DESTROYED_TCP: u32 = 1 << 0 | 1 << 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NOT_FOUND: i32 = rustix::io::Errno::NOENT.raw_os_error();

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, sequence: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = header(HEADER_LEN + data.len(), 0).to_vec();
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_messages_of_an_answer_are_parsed_in_order() {
        let mut answer = message(20, 7, b"abcde");
        answer.extend(message(NLMSG_DONE, 7, &0_i32.to_ne_bytes()));
        answer.extend(message(NLMSG_ERROR, 8, &(-2_i32).to_ne_bytes()));
        let found: Vec<_> = messages(&answer).collect();
        assert_eq!(
            found,
            [
                Message { sequence: 7, body: Body::Data(b"abcde") },
                Message { sequence: 7, body: Body::Done(0) },
                Message { sequence: 8, body: Body::Done(NOT_FOUND) },
            ]
        );
    }

    #[test]
    fn a_truncated_message_is_not_parsed() {
        let answer = message(20, 7, b"abcdefgh");
        assert_eq!(messages(&answer[..answer.len() - 1]).count(), 0);
    }

    proptest! {
        #[test]
        fn parsing_arbitrary_bytes_terminates(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER_LEN);
        }
    }
}
