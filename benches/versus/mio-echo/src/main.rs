//! `mio-echo ADDR [--spin]`: a TCP echo server on bare readiness (epoll by mio), one thread, no
//! runtime.
//!
//! One buffer serves all connections, for what a peer does not take at once is kept beside it: then
//! nothing more is read from that peer, so a slow reader costs at most one buffer. The end of the
//! peer's stream is passed back by closing once everything owed is sent. With `--spin` it never
//! sleeps: it asks again at once whether anything is ready.

mod connection;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use connection::{Connection, Next};

const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

fn main() -> ExitCode {
    peer::run("mio-echo", |addr| Server::new(addr)?.serve())
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    buffer: Vec<u8>,
    /// Accept failed: readiness is reported once, so it must be tried again unasked.
    try_again: bool,
    spin: bool,
}

impl Server {
    fn new(addr: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(peer::listen(addr)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        peer::announce(listener.local_addr()?);
        let spin = std::env::args().nth(2).as_deref() == Some("--spin");
        let buffer = vec![0; peer::BUFFER];
        Ok(Self { poll, listener, connections: Slab::new(), buffer, try_again: false, spin })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            if self.try_again {
                self.accept();
            }
            for event in &events {
                self.handle(event);
            }
        }
    }

    /// How long to wait for events; nothing is for ever.
    fn patience(&self) -> Option<Duration> {
        if self.spin {
            return Some(Duration::ZERO);
        }
        self.try_again.then_some(peer::PAUSE)
    }

    fn handle(&mut self, event: &Event) {
        if event.token() == LISTENER {
            return self.accept();
        }
        let key = event.token().0;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.proceed(&mut self.buffer, event.is_read_closed()) == Next::Close {
            self.connections.remove(key);
        }
    }

    fn accept(&mut self) {
        self.try_again = loop {
            match self.listener.accept() {
                // What a peer does wrong is its own loss: nobody is there to be told.
                Ok((stream, _)) => drop(self.admit(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let entry = self.connections.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
        entry.insert(Connection::new(stream));
        Ok(())
    }
}
