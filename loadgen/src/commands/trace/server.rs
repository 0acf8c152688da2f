//! A server for one connection, by the plain calls that every TCP server makes, each timed.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use uring_echo::clock::monotonic_ns;

use super::moments::Moment;
use crate::model::trace::{Event, Side};

/// A server that listens and accepts when told to.
#[derive(Debug)]
pub(super) struct Listening {
    listener: TcpListener,
    pub(super) addr: SocketAddr,
    moments: Vec<Moment>,
}

impl Listening {
    /// socket, bind, listen.
    pub(super) fn start(backlog: u32) -> io::Result<Self> {
        let side = Side::Server;
        let (made, socket) =
            Moment::of_call(side, Event::Socket, || Socket::new(Domain::IPV4, Type::STREAM, None));
        let socket = socket?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (bound, ok) = Moment::of_call(side, Event::Bind, || socket.bind(&any_port.into()));
        ok?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let (listens, ok) = Moment::of_call(side, Event::Listen, || socket.listen(backlog));
        ok?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, moments: vec![made, bound, listens] })
    }

    /// Serves the connection of `client` on a thread of its own: with `hold` it accepts that long
    /// after [`Serving::client_connects`], else it waits in accept already.
    pub(super) fn serve(self, client: SocketAddr, hold: Duration) -> io::Result<Serving> {
        let (connects, told) = channel();
        let (calls, called) = channel();
        let serve = move || serve(self, client, hold, &told, &calls);
        let thread = thread::Builder::new().name("server".into()).spawn(serve)?;
        let serving = Serving { connects, thread };
        // Gone without a word is an error, which joining the thread tells.
        if hold.is_zero() && called.recv().is_ok() {
            // From the call to sleeping in it takes the kernel microseconds.
            thread::sleep(Duration::from_millis(20));
        }
        Ok(serving)
    }
}

/// A server that waits for its client.
#[derive(Debug)]
pub(super) struct Serving {
    connects: Sender<()>,
    thread: JoinHandle<io::Result<Vec<Moment>>>,
}

impl Serving {
    /// The client is about to call connect: from now on the hold counts.
    pub(super) fn client_connects(&self) {
        // A server that has ended already tells why when it is joined.
        if self.connects.send(()).is_err() {
            thread::yield_now();
        }
    }

    /// What happened at the server, once it has closed the connection.
    pub(super) fn join(self) -> io::Result<Vec<Moment>> {
        self.thread.join().map_err(|_| io::Error::other("the server's thread panicked"))?
    }
}

fn serve(
    server: Listening,
    client: SocketAddr,
    hold: Duration,
    connects: &Receiver<()>,
    accept_called: &Sender<()>,
) -> io::Result<Vec<Moment>> {
    let mut moments = server.moments;
    if hold.is_zero() {
        moments.push(Moment::now(Side::Server, Event::AcceptCalled));
        // Nobody listens any more if the client's side has failed; it then says so itself.
        if accept_called.send(()).is_err() {
            return Ok(moments);
        }
    } else if connects.recv().is_ok() {
        moments.push(Moment::now(Side::Server, Event::HoldBegan));
        thread::sleep(hold);
    }
    let mut others = Vec::new();
    let mut stream = loop {
        let (stream, peer) = server.listener.accept()?;
        if peer == client {
            moments.push(Moment::now(Side::Server, Event::Accepted));
            break stream;
        }
        others.push(stream);
    };
    echo(&mut stream, &mut moments)?;
    moments.push(Moment::now(Side::Server, Event::Closed));
    Ok(moments)
}

fn echo(stream: &mut TcpStream, moments: &mut Vec<Moment>) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        moments.push(Moment::now(Side::Server, Event::Received).count(len as u64));
        let sending_ns = monotonic_ns();
        stream.write_all(&buffer[..len])?;
        moments.push(Moment::at(Side::Server, Event::EchoSent, sending_ns).count(len as u64));
    }
}
