//! The made-up kernel: carries out what the shard asks for, and panics if it must not be asked.

use uring_echo::echo::{Action, BufId, ConnId, Limits, MAX_SPANS, Nanos, SocketId};

use super::client::{Client, Stage};
use super::completions::Completions;
use super::listener::Listener;
use super::liveness::Watch;
use super::memory::Memory;
use super::random::Dice;
use super::scenario::{Faults, Scenario};
use super::socket::{Close, RecvOp, SendOp, Socket, What};

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) now: Nanos,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) send_space: u32,
    pub(crate) memory: Memory,
    pub(crate) done: Completions,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) sockets: Vec<Option<Socket>>,
    pub(crate) clients: Vec<Client>,
    /// Names of connections that are gone.
    pub(crate) past: Vec<ConnId>,
    pub(crate) draining: bool,
    /// Everything is to end: the shard may give up whomever it likes.
    pub(crate) stopping: bool,
    /// Every client does its part at once: nobody may run into a timeout any more.
    pub(crate) calm: bool,
    pub(crate) tally: Tally,
    pub(crate) watch: Watch,
}

/// What the shard's counters must say in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) stale: u64,
}

impl Kernel {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let numbered = (0u32..).zip(&scenario.plans);
        Self {
            now: Nanos(0),
            limits: scenario.limits,
            faults: scenario.faults,
            send_space: scenario.send_space,
            memory: Memory::new(&scenario.limits),
            done: Completions::default(),
            listeners: (0..scenario.limits.listeners).map(|_| Listener::default()).collect(),
            sockets: Vec::new(),
            clients: numbered.map(|(number, plan)| Client::new(number, *plan)).collect(),
            past: Vec::new(),
            draining: false,
            stopping: false,
            calm: false,
            tally: Tally::default(),
            watch: Watch::default(),
        }
    }

    pub(crate) fn obey(&mut self, action: Action<'_>) {
        match action {
            Action::ArmAccept { listener, burst } => {
                self.listener(listener).arm(burst);
                self.watch.armed_accept(burst);
            }
            Action::CancelAccept { listener } => {
                let promised = self.limits.accept_burst;
                if let Some(burst) = self.listener(listener).cancel(promised) {
                    self.watch.cancelled_accept(burst, self.draining);
                }
            }
            Action::ArmRecv { conn, socket, max_buffers } => {
                self.arm_recv(conn, socket, max_buffers)
            }
            Action::CancelRecv { conn, socket } => self.cancel_recv(conn, socket),
            Action::Send { conn, socket, source } => {
                self.begin_send(conn, socket, What::of(source))
            }
            Action::Copy { span, to, at } => self.memory.copy(&span, to, at),
            Action::Release { buf } => self.release(buf),
            Action::CancelAll { conn, socket } => self.cancel_all(conn, socket),
            Action::Close { conn, socket, orderly } => self.close(conn, socket, Close { orderly }),
        }
    }

    /// Does one thing for one socket, if there is anything to do.
    pub(crate) fn work(&mut self, socket: usize, dice: &mut Dice) -> bool {
        match dice.below(3) {
            0 => self.work_recv(socket, dice),
            1 => self.work_send(socket, dice),
            _ => self.work_close(socket),
        }
    }

    /// Does everything that can be done. True if there was something.
    pub(crate) fn work_all(&mut self, dice: &mut Dice) -> bool {
        let mut worked = false;
        for listener in 0..self.listeners.len() {
            while self.work_accept(listener, dice) {
                worked = true;
            }
        }
        for socket in 0..self.sockets.len() {
            while self.work_recv(socket, dice) || self.work_send(socket, dice) {
                worked = true;
            }
            worked |= self.work_close(socket);
        }
        worked
    }

    pub(crate) fn socket(&mut self, socket: SocketId) -> &mut Socket {
        self.sockets[socket.0 as usize].as_mut().expect("the socket is open")
    }

    /// The number of a socket not in use.
    pub(crate) fn open_socket(&mut self, client: usize) -> usize {
        self.clients[client].stage = Stage::Accepted;
        let free = self.sockets.iter().position(Option::is_none);
        let number = free.unwrap_or(self.sockets.len());
        if free.is_none() {
            self.sockets.push(None);
        }
        self.sockets[number] = Some(Socket::new(client));
        number
    }

    fn release(&mut self, buf: BufId) {
        self.watch.released();
        if let Some(holder) = self.memory.release(buf) {
            let socket = self.sockets[holder].as_mut().expect("who holds a buffer is open");
            socket.seen.held -= 1;
        }
    }

    fn arm_recv(&mut self, conn: ConnId, socket: SocketId, max_buffers: u8) {
        let left = u32::from(max_buffers) * self.limits.buffer_size;
        assert!(left > 0, "{conn:?} receives nothing");
        let socket = self.socket(socket);
        socket.know(conn);
        assert!(!socket.seen.receiving, "{conn:?} has two receives armed");
        assert!(!socket.seen.eof && !socket.seen.given_up, "{conn:?} receives after its end");
        socket.seen.receiving = true;
        socket.recv = Some(RecvOp { cancelled: false, fresh: true, left });
        let starved = std::mem::take(&mut socket.seen.starved);
        self.watch.armed_recv(starved);
    }

    fn cancel_recv(&mut self, conn: ConnId, socket: SocketId) {
        let socket = self.socket(socket);
        socket.know(conn);
        assert!(socket.seen.receiving && !socket.seen.cancelling, "{conn:?} has nothing to cancel");
        socket.seen.cancelling = true;
        if let Some(recv) = &mut socket.recv {
            recv.cancelled = true;
        }
    }

    fn begin_send(&mut self, conn: ConnId, socket: SocketId, what: What) {
        what.spans().iter().for_each(|span| self.memory.begin_send(span, socket.0 as usize));
        self.watch.full_sends += u64::from(what.spans().len() == MAX_SPANS);
        let now = self.now;
        let socket = self.socket(socket);
        socket.know(conn);
        assert!(what.len() > 0, "{conn:?} sends nothing");
        assert!(socket.seen.sending.is_none(), "{conn:?} has two sends in flight");
        assert!(!socket.seen.given_up, "{conn:?} sends after its end");
        socket.seen.sending = Some(what);
        socket.seen.send_at = now;
        socket.send = Some(SendOp { cancelled: false, what });
    }

    fn cancel_all(&mut self, conn: ConnId, id: SocketId) {
        self.socket(id).know(conn);
        self.justify(id);
        let socket = self.socket(id);
        let busy = socket.seen.receiving || socket.seen.sending.is_some();
        assert!(busy && !socket.seen.given_up, "{conn:?} has nothing to cancel");
        socket.seen.given_up = true;
        if let Some(recv) = &mut socket.recv {
            recv.cancelled = true;
        }
        if let Some(send) = &mut socket.send {
            send.cancelled = true;
        }
    }

    fn close(&mut self, conn: ConnId, id: SocketId, close: Close) {
        self.socket(id).know(conn);
        if !close.orderly && !self.socket(id).seen.given_up {
            self.justify(id);
        }
        let greeting = self.limits.greeting;
        let socket = self.sockets[id.0 as usize].as_mut().expect("the socket is open");
        let idle = !socket.seen.receiving && socket.seen.sending.is_none();
        assert!(idle, "{conn:?} closes with something in flight");
        if close.orderly {
            self.watch.orderly += 1;
            let client = &self.clients[socket.client];
            assert!(socket.seen.eof && !socket.seen.given_up, "{conn:?} ends before its peer did");
            assert_eq!((client.echoed, client.greeted), (client.sent, greeting), "bytes are owed");
        }
        socket.seen.given_up = true;
        socket.seen.closing = true;
        socket.close = Some(close);
    }

    /// Panics unless there is a reason to give this connection up.
    fn justify(&self, id: SocketId) {
        let socket = self.sockets[id.0 as usize].as_ref().expect("the socket is open");
        let seen = &socket.seen;
        let over = |timeout: Option<Nanos>, since: Nanos| {
            timeout.is_some_and(|timeout| since.plus(timeout) <= self.now)
        };
        let idle = over(self.limits.idle_timeout, seen.active_at);
        let unread = seen.sending.is_some() && over(self.limits.write_timeout, seen.send_at);
        let reason = seen.broken || seen.refused || self.stopping || idle || unread;
        assert!(reason, "{:?} is given up for no reason", socket.conn);
        let timed_out = !seen.broken && !seen.refused && !self.stopping;
        assert!(!(timed_out && self.calm), "{:?} was forgotten", socket.conn);
    }
}
