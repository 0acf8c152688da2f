//! The simulated kernel: carries out the shard's actions, and panics if one breaks the contract.

use uring_echo::echo::{Action, BufId, ConnId, Limits, MAX_SPANS, Nanos, SocketId};

use super::client::{Client, Stage};
use super::completions::Completions;
use super::listener::Listener;
use super::liveness::LivenessChecks;
use super::memory::Memory;
use super::random::Random;
use super::scenario::{Faults, Scenario};
use super::socket::{Close, Payload, RecvOp, SendOp, Socket, WatchOp};

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) now: Nanos,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) send_space: u32,
    pub(crate) memory: Memory,
    pub(crate) completions: Completions,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) sockets: Vec<Option<Socket>>,
    pub(crate) clients: Vec<Client>,
    /// Ids of connections that are closed.
    pub(crate) closed_conns: Vec<ConnId>,
    /// The socket of which the shard was given a part of what a receive brought: the rest follows.
    pub(crate) amid_receive: Option<usize>,
    pub(crate) draining: bool,
    /// Everything is stopped: the shard may abort any connection.
    pub(crate) stopping: bool,
    /// Every client responds at once: no connection may time out any more.
    pub(crate) settling: bool,
    pub(crate) expected: ExpectedStats,
    pub(crate) liveness: LivenessChecks,
}

/// What the shard's counters must be in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpectedStats {
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) stale: u64,
}

impl Kernel {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let numbered = (0u32..).zip(&scenario.scripts);
        Self {
            now: Nanos(0),
            limits: scenario.limits,
            faults: scenario.faults,
            send_space: scenario.send_space,
            memory: Memory::new(&scenario.limits),
            completions: Completions::default(),
            listeners: (0..scenario.limits.listeners).map(|_| Listener::default()).collect(),
            sockets: Vec::new(),
            clients: numbered.map(|(number, script)| Client::new(number, *script)).collect(),
            closed_conns: Vec::new(),
            amid_receive: None,
            draining: false,
            stopping: false,
            settling: false,
            expected: ExpectedStats::default(),
            liveness: LivenessChecks::default(),
        }
    }

    pub(crate) fn carry_out(&mut self, action: Action<'_>) {
        match action {
            Action::ArmAccept { listener, burst } => {
                self.listener(listener).arm(burst);
                self.liveness.armed_accept(burst);
            }
            Action::CancelAccept { listener } => {
                let promised = self.limits.accept_burst;
                if let Some(burst) = self.listener(listener).cancel(promised) {
                    self.liveness.cancelled_accept(burst, self.draining);
                }
            }
            Action::ArmRecv { conn, socket, max_buffers } => {
                self.arm_recv(conn, socket, max_buffers)
            }
            Action::CancelRecv { conn, socket } => self.cancel_recv(conn, socket),
            Action::Send { conn, socket, source } => {
                self.begin_send(conn, socket, Payload::of(source))
            }
            Action::WatchWritable { conn, socket } => self.watch_writable(conn, socket),
            Action::AskUnsent { conn, socket } => self.ask_unsent(conn, socket),
            Action::Copy { span, to, at } => self.memory.copy(&span, to, at),
            Action::Release { buf } => self.release(buf),
            Action::CancelAll { conn, socket, receives, watches } => {
                self.cancel_all(conn, socket, (receives, watches));
            }
            Action::Close { conn, socket, orderly } => self.close(conn, socket, Close { orderly }),
        }
    }

    /// Advances one operation of one socket, if there is one.
    pub(crate) fn work(&mut self, socket: usize, random: &mut Random) -> bool {
        match random.below(5) {
            0 => self.work_recv(socket, random),
            1 => self.work_send(socket, random),
            2 => self.work_watch(socket, random),
            3 => self.work_question(socket, random),
            _ => self.work_close(socket),
        }
    }

    /// Advances every operation as far as possible. True if there was one.
    pub(crate) fn work_all(&mut self, random: &mut Random) -> bool {
        let mut worked = false;
        for listener in 0..self.listeners.len() {
            while self.work_accept(listener, random) {
                worked = true;
            }
        }
        for socket in 0..self.sockets.len() {
            while self.work_recv(socket, random)
                || self.work_question(socket, random)
                || self.work_send(socket, random)
                || self.work_watch(socket, random)
            {
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
    pub(crate) fn add_socket(&mut self, client: usize) -> usize {
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
        self.liveness.released();
        self.memory.release(buf);
    }

    fn arm_recv(&mut self, conn: ConnId, socket: SocketId, max_buffers: u8) {
        let left = u32::from(max_buffers) * self.limits.buffer_size;
        assert!(left > 0, "{conn:?} receives nothing");
        let socket = self.socket(socket);
        socket.check_conn(conn);
        assert!(!socket.view.receiving, "{conn:?} has two receives armed");
        assert!(!socket.view.eof && !socket.view.aborted, "{conn:?} receives after its end");
        let looked = std::mem::take(&mut socket.view.writable);
        let looks_first = std::mem::take(&mut socket.view.looks_first);
        let goes_on = looked || !looks_first || socket.view.starved;
        assert!(goes_on, "{conn:?} receives although its peer does not read");
        socket.view.receiving = true;
        socket.recv = Some(RecvOp { cancelled: false, fresh: true, left });
        let starved = std::mem::take(&mut socket.view.starved);
        socket.view.woken = starved;
        self.liveness.armed_recv(starved);
    }

    fn cancel_recv(&mut self, conn: ConnId, socket: SocketId) {
        let socket = self.socket(socket);
        socket.check_conn(conn);
        assert!(socket.view.receiving && !socket.view.cancelling, "{conn:?} has nothing to cancel");
        socket.view.cancelling = true;
        if let Some(recv) = &mut socket.recv {
            recv.cancelled = true;
        }
    }

    fn begin_send(&mut self, conn: ConnId, socket: SocketId, what: Payload) {
        let is_amid = self.amid_receive == Some(socket.0 as usize);
        assert!(!is_amid, "{conn:?} sends a part of what a receive brought");
        what.spans().iter().for_each(|span| self.memory.begin_send(span, socket.0 as usize));
        self.liveness.full_sends += u64::from(what.spans().len() == MAX_SPANS);
        let socket = self.socket(socket);
        socket.check_conn(conn);
        assert!(what.len() > 0, "{conn:?} sends nothing");
        assert!(!socket.view.watching, "{conn:?} sends although its socket has no room");
        socket.view.writable = false;
        assert!(socket.view.sending.is_none(), "{conn:?} has two sends in flight");
        assert!(!socket.view.aborted, "{conn:?} sends after its end");
        socket.view.sending = Some(what);
        socket.send = Some(SendOp { cancelled: false, what });
    }

    fn watch_writable(&mut self, conn: ConnId, socket: SocketId) {
        let now = self.now;
        let socket = self.socket(socket);
        socket.check_conn(conn);
        assert!(!socket.view.watching && !socket.view.aborted, "{conn:?} waits twice for room");
        assert!(socket.view.sending.is_none(), "{conn:?} waits for room and sends");
        socket.view.watching = true;
        (socket.view.watch_at, socket.view.granted_at) = (now, now);
        socket.watch = Some(WatchOp { cancelled: false });
    }

    fn ask_unsent(&mut self, conn: ConnId, socket: SocketId) {
        let socket = self.socket(socket);
        socket.check_conn(conn);
        assert!(!socket.view.asking && !socket.view.aborted, "{conn:?} asks twice");
        socket.view.asking = true;
        socket.asked = true;
    }

    fn cancel_all(&mut self, conn: ConnId, id: SocketId, armed: (bool, bool)) {
        self.socket(id).check_conn(conn);
        self.assert_may_abort(id);
        self.memory.forget(id.0 as usize);
        let socket = self.socket(id);
        let view = &socket.view;
        let busy = view.receiving || view.sending.is_some() || view.watching;
        assert!(busy && !socket.view.aborted, "{conn:?} has nothing to cancel");
        assert_eq!(armed, (view.receiving, view.watching), "{conn:?} has other things to cancel");
        socket.view.aborted = true;
        if let Some(recv) = &mut socket.recv {
            recv.cancelled = true;
        }
        if let Some(send) = &mut socket.send {
            send.cancelled = true;
        }
        if let Some(watch) = &mut socket.watch {
            watch.cancelled = true;
        }
    }

    fn close(&mut self, conn: ConnId, id: SocketId, close: Close) {
        self.socket(id).check_conn(conn);
        if !close.orderly && !self.socket(id).view.aborted {
            self.assert_may_abort(id);
        }
        self.memory.forget(id.0 as usize);
        let greeting = self.limits.greeting;
        let socket = self.sockets[id.0 as usize].as_mut().expect("the socket is open");
        let view = &socket.view;
        let idle = !view.receiving && view.sending.is_none() && !view.watching && !view.asking;
        assert!(idle, "{conn:?} closes with something in flight");
        if close.orderly {
            self.liveness.orderly += 1;
            let client = &self.clients[socket.client];
            assert!(socket.view.eof && !socket.view.aborted, "{conn:?} ends before its peer did");
            assert_eq!((client.echoed, client.greeted), (client.sent, greeting), "bytes are owed");
        }
        socket.view.aborted = true;
        socket.view.closing = true;
        socket.close = Some(close);
    }

    /// Panics unless there is a reason to abort this connection.
    fn assert_may_abort(&self, id: SocketId) {
        let socket = self.sockets[id.0 as usize].as_ref().expect("the socket is open");
        let view = &socket.view;
        let over = |timeout: Option<Nanos>, since: Nanos| {
            timeout.is_some_and(|timeout| since.plus(timeout) <= self.now)
        };
        let idle = over(self.limits.idle_timeout, view.active_at);
        let unread = view.watching && view.stuck && over(self.limits.write_timeout, view.watch_at);
        let last_resort = self.is_last_resort(id);
        let reason = view.broken || view.refused || self.stopping || idle || unread || last_resort;
        assert!(reason, "{:?} is aborted for no reason", socket.conn);
        let timed_out = !view.broken && !view.refused && !self.stopping && !last_resort;
        assert!(!(timed_out && self.settling), "{:?} was forgotten", socket.conn);
    }

    /// The pool is empty, somebody needs a buffer, and this one keeps some it cannot use.
    fn is_last_resort(&self, id: SocketId) -> bool {
        let starved = |socket: &Socket| socket.view.starved && !socket.view.aborted;
        let view = &self.sockets[id.0 as usize].as_ref().expect("the socket is open").view;
        let keeps = view.watching && self.memory.holds(id.0 as usize);
        keeps && self.memory.all_taken() && self.sockets.iter().flatten().any(starved)
    }
}
