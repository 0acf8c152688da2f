//! One connection of the client: what it may send, what it has sent and what has come back.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::pattern::{PIECE, Pattern};

pub(super) struct Connection {
    stream: TcpStream,
    seed: usize,
    size: u64,
    /// Bytes that may be sent: those of the messages begun.
    due: u64,
    sent: u64,
    received: u64,
    /// When each message that is out was begun, oldest first.
    begun: VecDeque<Instant>,
    opened: Option<Instant>,
}

impl Connection {
    /// Connects. Blocking, because on loopback the handshake is over when the call returns.
    pub(super) fn open(addr: SocketAddr, seed: usize, size: usize) -> Result<Self> {
        let opened = Some(Instant::now());
        let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let begun = VecDeque::new();
        Ok(Self { stream, seed, size: size as u64, due: 0, sent: 0, received: 0, begun, opened })
    }

    /// Ends the connection by reset, so that its port is free at once.
    pub(super) fn abort(self) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        Ok(())
    }

    pub(super) fn outstanding(&self) -> usize {
        self.begun.len()
    }

    /// Age of the oldest message that has not come back.
    pub(super) fn oldest_out_ns(&self) -> Option<u64> {
        self.begun.front().map(|begun| begun.elapsed().as_nanos() as u64)
    }

    /// Begins `messages` more and sends what the socket takes of them.
    pub(super) fn begin(&mut self, messages: usize, pattern: &Pattern) -> Result<()> {
        let now = Instant::now();
        self.begun.extend((0..messages).map(|_| now));
        self.due += messages as u64 * self.size;
        self.flush(pattern)
    }

    /// For a connection that is timed from its connect call: the first message begins there.
    pub(super) fn backdate(&mut self) {
        if let (Some(opened), Some(first)) = (self.opened.take(), self.begun.front_mut()) {
            *first = opened;
        }
    }

    pub(super) fn flush(&mut self, pattern: &Pattern) -> Result<()> {
        while self.sent < self.due {
            let length = PIECE.min((self.due - self.sent) as usize);
            match self.stream.write(pattern.at(self.seed, self.sent, length)) {
                Ok(taken) => self.sent += taken as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    /// Reads all there is, compares every byte and hands the time of each whole message to `done`.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        pattern: &Pattern,
        mut done: impl FnMut(Duration),
    ) -> Result<usize> {
        let mut whole = 0;
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed after {} bytes", self.received),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(whole),
                Err(error) => return Err(error).context("receiving"),
            };
            self.compare(&buffer[..length], pattern)?;
            let now = Instant::now();
            let before = self.received / self.size;
            self.received += length as u64;
            for _ in before..self.received / self.size {
                let begun = self.begun.pop_front().context("more came back than was sent")?;
                done(now - begun);
                whole += 1;
            }
            if length < buffer.len() {
                return Ok(whole);
            }
        }
    }

    fn compare(&self, got: &[u8], pattern: &Pattern) -> Result<()> {
        let expected = pattern.at(self.seed, self.received, got.len());
        if got == expected {
            return Ok(());
        }
        let at = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
        bail!("wrong byte at offset {} of connection {}", self.received + at as u64, self.seed)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
