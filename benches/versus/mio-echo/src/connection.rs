//! One connection: what it still owes its peer, and what to do when its socket is ready.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

/// What becomes of a connection once it has done all that its socket allowed.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    Wait,
    Close,
}

pub(crate) struct Connection {
    stream: TcpStream,
    owed: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, owed: Vec::new() }
    }

    /// Reads and writes until the socket would block: readiness is reported only on its edges.
    /// `ended` says that the end of the peer's stream was reported too.
    pub(crate) fn proceed(&mut self, buffer: &mut [u8], ended: bool) -> Next {
        match self.exchange(buffer, ended) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
            Ok(()) | Err(_) => Next::Close,
        }
    }

    /// `Ok` is the end of the peer's stream with nothing owed.
    fn exchange(&mut self, buffer: &mut [u8], ended: bool) -> io::Result<()> {
        self.pay()?;
        loop {
            let length = retry(|| self.stream.read(buffer))?;
            if length == 0 {
                return Ok(());
            }
            self.send(&buffer[..length])?;
            // A short read has emptied the socket: the next edge tells of more, and a call that
            // could only say "would block" is saved. Not so the end: its edge has gone by.
            if length < buffer.len() && !ended {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match retry(|| self.stream.write(&bytes[sent..])) {
                Ok(taken) => sent += taken,
                Err(error) => {
                    self.owed.extend_from_slice(&bytes[sent..]);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn pay(&mut self) -> io::Result<()> {
        while !self.owed.is_empty() {
            let taken = retry(|| self.stream.write(&self.owed))?;
            self.owed.drain(..taken);
        }
        // An idle connection holds no memory for what it once owed.
        self.owed = Vec::new();
        Ok(())
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
