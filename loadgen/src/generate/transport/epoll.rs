//! Non-blocking sockets and epoll(7), edge-triggered: this thread carries the operations out itself
//! as soon as the kernel reports that they will not wait.

mod buffers;
mod readiness;

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, connect, recv, send, sockopt};
use uring_echo::clock::monotonic_ns;
use uring_echo::ring::{Completion, Op};

use self::buffers::Buffers;
use self::readiness::Readiness;
use super::{BUFFERS, CallSpan, Handshake, Transport, TransportSpec, local_addr, token};
use crate::generate::GenerateError;
use crate::generate::table::SlotId;

/// The sockets of a thread, and what is known about them.
#[derive(Debug)]
pub(in crate::generate) struct EpollTransport {
    readiness: Readiness,
    target: SocketAddr,
    payload: Box<[u8]>,
    buffers: Buffers,
    /// By slot.
    sockets: Box<[Option<Socket>]>,
    /// The connection whose connect was called last, until epoll watches it.
    unwatched: Option<SlotId>,
    /// Connections that may receive although epoll reports nothing new about them.
    readable: VecDeque<SlotId>,
    done: VecDeque<Completion>,
}

/// A socket, what was asked of it, and what is known about it.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    generation: u32,
    connecting: bool,
    receiving: bool,
    sending: Option<Sending>,
    /// A receive may find something: the last one did not rule it out.
    readable: bool,
    /// The peer has ended its stream or the connection has failed: no further event will tell.
    ended: bool,
}

/// A send of which the kernel has not taken everything.
#[derive(Debug)]
struct Sending {
    rest: Range<usize>,
    len: u32,
}

impl Transport for EpollTransport {
    const NONBLOCKING: bool = true;

    fn new(spec: &TransportSpec<'_>) -> Result<Self, GenerateError> {
        let slots = spec.slots as usize;
        Ok(Self {
            readiness: Readiness::new()?,
            target: spec.target,
            payload: spec.payload.into(),
            buffers: Buffers::new(BUFFERS, spec.buffer_size()),
            sockets: (0..slots).map(|_| None).collect(),
            unwatched: None,
            readable: VecDeque::with_capacity(slots),
            done: VecDeque::with_capacity(slots * COMPLETIONS_EACH),
        })
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    /// Over loopback the kernel answers EINPROGRESS although the handshake is over by then: it
    /// queues the peer's answer while connect(2) holds the socket and handles it at the end of the
    /// call. So the outcome is asked for at once, and epoll is told of the socket only after it.
    fn connect(&mut self, id: SlotId, fd: OwnedFd) -> Result<CallSpan, GenerateError> {
        self.submit()?;
        let called_ns = monotonic_ns();
        let called = connect(&fd, &self.target);
        let returned_ns = monotonic_ns();
        self.sockets[id.index() as usize] = Some(Socket::connecting(fd, id.generation()));
        self.unwatched = Some(id);
        match called {
            Err(Errno::INPROGRESS) => self.ask_how_connect_went(id),
            outcome => self.connected(id, outcome),
        }
        Ok(CallSpan { called_ns, returned_ns, asked_ns: monotonic_ns() })
    }

    fn handshake(&self, id: SlotId) -> Handshake {
        let socket = self.sockets[id.index() as usize].as_ref();
        Handshake::of(&socket.expect("a connection has a socket").fd)
    }

    fn await_connect(&mut self, id: SlotId) {
        if let Some(socket) = self.socket(id) {
            socket.connecting = true;
        }
    }

    fn receive(&mut self, id: SlotId) {
        let Some(socket) = self.socket(id) else { return };
        socket.receiving = true;
        if socket.readable {
            self.readable.push_back(id);
        }
    }

    fn send(&mut self, id: SlotId, bytes: Range<usize>) {
        let len = u32::try_from(bytes.len()).expect("a message is shorter than 4 GiB");
        let Some(socket) = self.socket(id) else { return };
        socket.sending = Some(Sending { rest: bytes, len });
        self.go_on_sending(id);
    }

    fn cancel(&mut self, id: SlotId) {
        let Some(socket) = self.socket(id) else { return };
        let in_progress = [
            (Op::Connect, mem::take(&mut socket.connecting)),
            (Op::Recv, mem::take(&mut socket.receiving)),
            (Op::Send, socket.sending.take().is_some()),
        ];
        for (op, _) in in_progress.into_iter().filter(|(_, asked)| *asked) {
            self.complete(op, id, Err(Errno::CANCELED), None);
        }
    }

    /// epoll forgets a socket that is closed.
    fn close(&mut self, id: SlotId) {
        self.sockets[id.index() as usize] = None;
    }

    fn local_addr(&self, id: SlotId) -> Option<SocketAddr> {
        local_addr(&self.sockets[id.index() as usize].as_ref()?.fd)
    }

    /// Sends have been carried out; only epoll may not know of the last socket yet.
    fn submit(&mut self) -> Result<(), GenerateError> {
        let Some(id) = self.unwatched.take() else { return Ok(()) };
        let socket = self.sockets[id.index() as usize].as_ref();
        match socket.filter(|socket| socket.generation == id.generation()) {
            Some(socket) => self.readiness.watch(socket.fd.as_fd(), id),
            None => Ok(()),
        }
    }

    /// Finds one completion, so that each is seen at an instant of its own.
    fn poll(&mut self) -> Result<(), GenerateError> {
        if !self.done.is_empty() {
            return Ok(());
        }
        self.submit()?;
        self.readiness.fetch()?;
        while self.done.is_empty() {
            let Some(id) = self.next_ready() else { break };
            self.go_on(id);
        }
        Ok(())
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) {
        batch.clear();
        let found = self.done.len().min(batch.capacity());
        batch.extend(self.done.drain(..found));
    }

    fn wait(&mut self, limit: Duration) -> Result<(), GenerateError> {
        self.submit()?;
        let found = !self.done.is_empty() || !self.readable.is_empty();
        if found || self.readiness.is_pending() {
            return Ok(());
        }
        self.readiness.sleep(limit)
    }

    fn bytes(&self, buffer: u16, len: u32) -> &[u8] {
        &self.buffers.get(buffer)[..len as usize]
    }

    fn release(&mut self, buffer: u16) {
        self.buffers.release(buffer);
    }
}

impl EpollTransport {
    fn socket(&mut self, id: SlotId) -> Option<&mut Socket> {
        let socket = self.sockets[id.index() as usize].as_mut();
        socket.filter(|socket| socket.generation == id.generation())
    }

    /// The next connection with something to do. Receives without a new event come last, and only
    /// while there are buffers for them.
    fn next_ready(&mut self) -> Option<SlotId> {
        while let Some((id, flags)) = self.readiness.take() {
            if let Some(socket) = self.socket(id) {
                socket.note(flags);
                return Some(id);
            }
        }
        if self.buffers.is_empty() { None } else { self.readable.pop_front() }
    }

    /// Carries out what was asked for, as far as it goes without waiting.
    fn go_on(&mut self, id: SlotId) {
        let Some(socket) = self.socket(id) else { return };
        if socket.connecting {
            return self.ask_how_connect_went(id);
        }
        self.go_on_sending(id);
        self.try_to_receive(id);
    }

    /// A second connect(2) tells, and takes a pending error off the socket: it succeeds once when
    /// the handshake is over, and says EALREADY as long as it is not. An ICMP error may have come
    /// meanwhile (see [`Handshake`]).
    fn ask_how_connect_went(&mut self, id: SlotId) {
        let target = self.target;
        let Some(socket) = self.socket(id) else { return };
        match connect(&socket.fd, &target) {
            Err(Errno::ALREADY | Errno::INTR) => {
                if let Ok(Err(errno)) = sockopt::socket_error(&socket.fd) {
                    self.connected(id, Err(errno));
                }
            }
            outcome => self.connected(id, outcome),
        }
    }

    fn connected(&mut self, id: SlotId, outcome: Result<(), Errno>) {
        let Some(socket) = self.socket(id) else { return };
        socket.connecting = false;
        self.complete(Op::Connect, id, outcome.map(|()| 0), None);
    }

    fn go_on_sending(&mut self, id: SlotId) {
        let Some(socket) = self.sockets[id.index() as usize].as_mut() else { return };
        let Some(sending) = &mut socket.sending else { return };
        let outcome = loop {
            let rest = &self.payload[sending.rest.clone()];
            match retry_on_intr(|| send(&socket.fd, rest, SendFlags::NOSIGNAL)) {
                Err(Errno::AGAIN) => return,
                Err(errno) => break Err(errno),
                Ok(sent) if sent == rest.len() => break Ok(sending.len),
                Ok(sent) => sending.rest.start += sent,
            }
        };
        socket.sending = None;
        self.complete(Op::Send, id, outcome, None);
    }

    fn try_to_receive(&mut self, id: SlotId) {
        let Some(socket) = self.sockets[id.index() as usize].as_mut() else { return };
        if !socket.receiving || !socket.readable {
            return;
        }
        let Some(buffer) = self.buffers.take() else {
            self.readable.push_back(id);
            return;
        };
        let room = self.buffers.get_mut(buffer);
        let filled = room.len();
        let outcome = retry_on_intr(|| recv(&socket.fd, &mut *room, RecvFlags::empty()));
        // What filled only a part of the buffer was all there was; what comes next is an event.
        socket.readable = outcome.is_ok_and(|(_, len)| socket.ended || len == filled);
        socket.receiving = outcome == Err(Errno::AGAIN);
        match outcome {
            Ok((_, len @ 1..)) => {
                let len = u32::try_from(len).expect("a buffer is small");
                self.complete(Op::Recv, id, Ok(len), Some(buffer));
            }
            nothing => {
                self.buffers.release(buffer);
                if nothing != Err(Errno::AGAIN) {
                    self.complete(Op::Recv, id, nothing.map(|_| 0), None);
                }
            }
        }
    }

    fn complete(&mut self, op: Op, id: SlotId, result: Result<u32, Errno>, buffer: Option<u16>) {
        let token = token(op, id);
        self.done.push_back(Completion { token, result, buffer, continues: false, more: false });
    }
}

impl Socket {
    fn connecting(fd: OwnedFd, generation: u32) -> Self {
        Self {
            fd,
            generation,
            connecting: true,
            receiving: false,
            sending: None,
            readable: false,
            ended: false,
        }
    }

    fn note(&mut self, flags: EventFlags) {
        self.ended |= flags.intersects(ENDED);
        self.readable |= flags.intersects(ENDED.union(EventFlags::IN));
    }
}

const ENDED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
/// A connection may be owed the ends of a connect or a receive, and of two sends.
const COMPLETIONS_EACH: usize = 4;
