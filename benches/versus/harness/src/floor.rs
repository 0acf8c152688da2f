//! `versus floor accept|echo [--spin] ADDR`: the barest servers that can be written, as yardsticks.
//!
//! They refuse nothing, bound nothing and survive nothing; what they cost is the kernel's share of
//! the work. Sleeping, `accept` is a loop around one blocking call and `echo` a thread per
//! connection. Spinning, both go round non-blocking sockets and never let the CPU go.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use clap::ValueEnum;

/// Accepted connections that are kept before the oldest is closed.
const KEPT: usize = 512;
/// Connections looked at between two looks at the listener.
const STRIDE: usize = 16;

/// Which server.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    work: Work,
    addr: SocketAddr,
    /// Never sleep
    #[arg(long)]
    spin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Work {
    Accept,
    Echo,
}

/// Serves until killed.
///
/// # Errors
/// What socket, bind, listen or accept said.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let listener = peer::listen(options.addr)?;
    listener.set_nonblocking(options.spin)?;
    peer::announce(listener.local_addr()?);
    match (options.work, options.spin) {
        (Work::Accept, _) => accept(&listener),
        (Work::Echo, false) => echo_asleep(&listener),
        (Work::Echo, true) => echo_spinning(&listener),
    }
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    let mut kept = VecDeque::with_capacity(KEPT + 1);
    loop {
        if let Some(stream) = next(listener)? {
            kept.push_back(stream);
        }
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

fn next(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn echo_asleep(listener: &TcpListener) -> io::Result<()> {
    while let Some(stream) = next(listener)? {
        let thread = thread::Builder::new().stack_size(peer::BUFFER * 4);
        thread.spawn(move || drop(echo_until_end(stream)))?;
    }
    Ok(())
}

fn echo_until_end(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; peer::BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn echo_spinning(listener: &TcpListener) -> io::Result<()> {
    let mut buffer = vec![0; peer::BUFFER];
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut turn = 0;
    loop {
        if let Some(stream) = next(listener)? {
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        for _ in 0..STRIDE.min(streams.len()) {
            turn = if turn + 1 < streams.len() { turn + 1 } else { 0 };
            if echo_now(&mut streams[turn], &mut buffer).is_err() {
                streams.swap_remove(turn);
                break;
            }
        }
    }
}

/// An error is also the end: the connection is given up.
fn echo_now(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let length = match stream.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => length,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut sent = 0;
    while sent < length {
        match stream.write(&buffer[sent..length]) {
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
