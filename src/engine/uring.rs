//! The default engine: completions in, submissions out.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tracing::debug;

use super::patience::{PREEMPTED_NS, Patience};
use super::stamper::Stamper;
use super::{EngineError, WorkerPlan};
use crate::clock::monotonic_ns;
use crate::config::Stall;
use crate::echo::{
    AcceptEnd, Action, BufId, Burst, ConnId, Event, ListenerId, MAX_SPANS, Nanos, PeerKey, RecvEnd,
    Shard, SocketId, Source, Span, Stats,
};
use crate::ring::{Completion, Handle, MAX_PIECES, Op, Piece, Ring, Token};
use crate::shutdown::Phase;
use crate::stamp::FRAME_LEN;

/// Completions handled between two looks at the kernel.
const BATCH: usize = 256;
/// Counters are published at most this often while there is work, and before every sleep.
const PUBLISH_NS: u64 = 10_000_000;

const _: () = assert!(MAX_SPANS <= MAX_PIECES, "a coalesced send must fit one message");

/// Runs one worker until it has drained or is stopped.
pub(super) fn run(
    plan: WorkerPlan,
    ready: &mpsc::Sender<Vec<String>>,
) -> Result<Stats, EngineError> {
    let mut worker = Worker::new(plan)?;
    worker.handle(Event::Start);
    worker.io.ring.submit()?;
    // Whoever started us may have gone; then the stop signal is about to arrive.
    if ready.send(worker.io.ring.degraded().to_vec()).is_err() {
        debug!("nobody waits for this worker to be ready");
    }
    worker.serve()
}

/// One thread: a shard that decides and the means to carry it out.
struct Worker {
    shard: Shard,
    io: Io,
    plan: WorkerPlan,
    patience: Patience,
    phase: Phase,
    now: u64,
    published: u64,
    next_stall: Option<u64>,
}

impl Worker {
    fn new(plan: WorkerPlan) -> Result<Self, EngineError> {
        let now = monotonic_ns();
        let mut ring = Ring::new(&plan.limits.ring)?;
        ring.watch(plan.control.bell(plan.index), Token::new(Op::Wake, 0, 0));
        let mut limits = plan.limits.shard;
        limits.accept_burst = ring.completion_slots();
        Ok(Self {
            shard: Shard::new(limits),
            io: Io::new(ring, &plan)?,
            patience: Patience::new(plan.config.busy_poll),
            phase: Phase::Serving,
            now,
            published: now,
            next_stall: plan.config.stall.map(|stall| now + nanos(stall.every) / 2),
            plan,
        })
    }

    /// The loop: wait → accept completions → the rest → housekeeping.
    fn serve(&mut self) -> Result<Stats, EngineError> {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.is_finished() {
            self.stall();
            self.wait()?;
            loop {
                self.io.ring.reap(&mut batch);
                // Anew for each batch: handling one takes time, and submitting in its middle lets
                // the kernel accept more. No accept is stamped with a time before it.
                self.now = monotonic_ns();
                if batch.is_empty() {
                    break;
                }
                self.handle_batch(&batch);
            }
            self.keep_house()?;
        }
        self.plan.published.publish(self.shard.stats());
        Ok(*self.shard.stats())
    }

    fn is_finished(&self) -> bool {
        self.phase != Phase::Serving && self.shard.is_finished() && self.io.sweeps_done()
    }

    /// Connections that wait to be taken come before bytes of those that were.
    fn handle_batch(&mut self, batch: &[Completion]) {
        for done in batch.iter().filter(|done| done.token.op() == Op::Accept) {
            self.handle_accept(done);
        }
        for done in batch.iter().filter(|done| done.token.op() != Op::Accept) {
            self.handle_completion(done);
        }
    }

    fn handle(&mut self, event: Event) {
        let io = &mut self.io;
        self.shard.handle(Nanos(self.now), event, &mut |action| io.carry_out(action));
    }

    fn handle_accept(&mut self, done: &Completion) {
        let listener = listener_of(done.token);
        self.io.accepted_ns = self.now;
        if let Ok(slot) = done.result {
            let peer = self.io.note_peer(listener);
            self.handle(Event::Accepted { listener, socket: SocketId(slot), peer });
        }
        if done.more {
            return;
        }
        self.io.disarmed(listener);
        if self.io.is_sweeping(listener) {
            self.io.swept(listener, accept_end(done.result));
            return;
        }
        let end = accept_end(done.result);
        if let (AcceptEnd::Fatal, Err(errno)) = (end, done.result) {
            self.io.fault = Some(errno);
        }
        self.handle(Event::AcceptEnded { listener, end });
    }

    fn handle_completion(&mut self, done: &Completion) {
        let conn = ConnId::new(done.token.index(), done.token.generation());
        match (done.token.op(), done.result) {
            (Op::Recv, _) => self.handle_receive(conn, done),
            (Op::Send, Ok(len)) => self.handle(Event::Sent { conn, len }),
            (Op::Send, Err(_)) => self.handle(Event::SendFailed { conn }),
            (Op::Close, result) => {
                // The descriptor is gone in any case; an error here speaks of bytes that were
                // already given up.
                if let Err(error) = result {
                    debug!(%error, ?conn, "close");
                }
                self.handle(Event::Closed { conn });
            }
            (Op::Wake, _) if !done.more => {
                let bell = self.plan.control.bell(self.plan.index);
                self.io.ring.watch(bell, done.token);
            }
            _ => {}
        }
    }

    fn handle_receive(&mut self, conn: ConnId, done: &Completion) {
        match (done.result, done.buffer) {
            (Ok(len), Some(buf)) if len > 0 => {
                self.handle(Event::Received { conn, buf: BufId(buf), len });
            }
            (_, Some(buf)) => self.io.ring.release(buf),
            (_, None) => {}
        }
        if !done.more {
            self.handle(Event::RecvEnded { conn, end: receive_end(done.result) });
        }
    }

    /// What no completion reports: time, the stop word, an unusable listener.
    fn keep_house(&mut self) -> Result<(), EngineError> {
        if let Some(errno) = self.io.fault {
            return Err(EngineError::Listener(errno));
        }
        if self.shard.deadline().is_some_and(|deadline| deadline.0 <= self.now) {
            self.handle(Event::Tick);
            if self.shard.is_stopped() {
                self.phase = Phase::Stopping;
            }
        }
        let phase = self.plan.control.phase();
        if phase > self.phase {
            self.phase = phase;
            self.handle(if phase == Phase::Draining { Event::Drain } else { Event::Stop });
        }
        self.io.sweep(self.phase, self.shard.room());
        if self.now - self.published >= PUBLISH_NS {
            self.publish();
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.published = self.now;
        self.plan.published.publish(self.shard.stats());
    }

    /// Submits what is queued and waits for completions: spinning first where that pays.
    fn wait(&mut self) -> Result<(), EngineError> {
        let start = self.now;
        if !self.spin(start)? {
            self.publish();
            self.io.ring.wait(self.limit())?;
        }
        self.patience.waited(monotonic_ns() - start);
        Ok(())
    }

    /// True as soon as there is something to do, false if spinning is not worth it (any more).
    fn spin(&mut self, start: u64) -> Result<bool, EngineError> {
        let spin_ns = self.patience.spin_ns(start);
        if spin_ns == 0 {
            return Ok(false);
        }
        let mut now = monotonic_ns();
        let until = self.next_instant().unwrap_or(u64::MAX).min(now.saturating_add(spin_ns));
        while now < until {
            for _ in 0..16 {
                self.io.ring.poll()?;
                if self.io.ring.is_ready() {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            let before = std::mem::replace(&mut now, monotonic_ns());
            if now - before > PREEMPTED_NS {
                self.patience.preempted(now);
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// When something is due whether or not a completion comes.
    fn next_instant(&self) -> Option<u64> {
        let deadline = self.shard.deadline().map(|deadline| deadline.0);
        deadline.into_iter().chain(self.next_stall).min()
    }

    fn limit(&self) -> Option<Duration> {
        let next = self.next_instant()?;
        Some(Duration::from_nanos(next.saturating_sub(monotonic_ns())))
    }

    fn stall(&mut self) {
        let (Some(at), Some(Stall { length, every })) = (self.next_stall, self.plan.config.stall)
        else {
            return;
        };
        if monotonic_ns() >= at {
            thread::sleep(length);
            self.next_stall = Some(at + nanos(every));
        }
    }
}

/// The kernel's side of a worker.
struct Io {
    ring: Ring,
    listeners: Vec<Listener>,
    stamper: Option<Stamper>,
    /// Peers are wanted, which only single accepts tell.
    want_peers: bool,
    log_peers: bool,
    /// When the accept completions being handled were reaped.
    accepted_ns: u64,
    fault: Option<Errno>,
}

struct Listener {
    socket: Option<Arc<OwnedFd>>,
    /// An accept of the shard's is in flight.
    armed: bool,
    sweep: Sweep,
}

/// Emptying the accept queue at the end, one connection at a time while there is room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// The next accept may be started, once the server drains and none is armed.
    Next,
    /// An accept and its cancellation are in flight.
    InFlight,
}

impl Io {
    fn new(ring: Ring, plan: &WorkerPlan) -> Result<Self, EngineError> {
        let listener = |socket: &Arc<OwnedFd>| Listener {
            socket: Some(Arc::clone(socket)),
            armed: false,
            sweep: Sweep::Next,
        };
        Ok(Self {
            ring,
            listeners: plan.listeners.iter().map(listener).collect(),
            stamper: if plan.config.stamp { Some(Stamper::new(plan)?) } else { None },
            want_peers: plan.config.log_peers || plan.config.max_per_ip.is_some(),
            log_peers: plan.config.log_peers,
            accepted_ns: 0,
            fault: None,
        })
    }

    /// One action of the shard, one submission.
    fn carry_out(&mut self, action: Action<'_>) {
        match action {
            Action::ArmAccept { listener, burst } => self.arm_accept(listener, burst),
            Action::CancelAccept { listener } => {
                self.ring.cancel(accept_token(listener), CANCEL);
            }
            Action::ArmRecv { conn, socket } => {
                self.ring.receive_some(Handle::Direct(socket.0), token(Op::Recv, conn));
            }
            Action::CancelRecv { conn, .. } => self.ring.cancel(token(Op::Recv, conn), CANCEL),
            Action::Send { conn, socket, source } => self.send(conn, socket, source),
            Action::Copy { span, to, at } => self.ring.copy(piece(&span), to.0, at),
            Action::Release { buf } => self.ring.release(buf.0),
            Action::CancelAll { socket, .. } => {
                self.ring.cancel_all(Handle::Direct(socket.0), CANCEL);
            }
            // Orderly or not, one close does it: when everything owed was sent and the peer's end
            // of stream was read, close(2) sends the same FIN as shutdown(SHUT_WR), while
            // IORING_OP_SHUTDOWN always takes the detour over a kernel worker thread.
            Action::Close { conn, socket, .. } => {
                self.ring.close_direct(socket.0, token(Op::Close, conn));
            }
        }
    }

    fn arm_accept(&mut self, listener: ListenerId, burst: Burst) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        let Some(socket) = &entry.socket else { return };
        entry.armed = true;
        let token = accept_token(listener);
        match burst {
            Burst::Many if !self.want_peers => self.ring.accept_many(socket.as_fd(), token),
            _ => self.ring.accept_one(socket.as_fd(), u32::from(listener.0), token),
        }
    }

    fn send(&mut self, conn: ConnId, socket: SocketId, source: Source<'_>) {
        let (socket, token) = (Handle::Direct(socket.0), token(Op::Send, conn));
        match source {
            Source::Spans(spans) => {
                let mut pieces = [Piece { buffer: 0, offset: 0, len: 0 }; MAX_SPANS];
                for (slot, span) in pieces.iter_mut().zip(spans) {
                    *slot = piece(span);
                }
                self.ring.send_pieces(socket, &pieces[..spans.len()], token);
            }
            Source::Greeting { offset, len } => {
                let start = conn.index() as usize * FRAME_LEN;
                if offset == 0 {
                    let stamper = self.stamper.as_mut().expect("a greeting is a stamp");
                    self.ring.stage(start, &stamper.next(self.accepted_ns));
                }
                self.ring.send_staged(socket, start + offset as usize, len, token);
            }
        }
    }

    /// The peer of the accept just completed, where somebody wants to know.
    fn note_peer(&self, listener: ListenerId) -> Option<PeerKey> {
        if !self.want_peers {
            return None;
        }
        let peer = self.ring.accepted_peer(u32::from(listener.0))?;
        if self.log_peers {
            debug!(%peer, "accepted");
        }
        Some(PeerKey(match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        }))
    }

    fn disarmed(&mut self, listener: ListenerId) {
        self.listeners[usize::from(listener.0)].armed = false;
    }

    fn is_sweeping(&self, listener: ListenerId) -> bool {
        self.listeners[usize::from(listener.0)].sweep == Sweep::InFlight
    }

    /// An accept of the sweep has ended: cancelled if the queue was empty. Then the listener is
    /// closed, and also if the system cannot hand over any more.
    fn swept(&mut self, listener: ListenerId, end: AcceptEnd) {
        let listener = &mut self.listeners[usize::from(listener.0)];
        listener.sweep = Sweep::Next;
        if !matches!(end, AcceptEnd::Complete | AcceptEnd::Aborted) {
            listener.socket = None;
        }
    }

    /// Goes on with the sweep while there is room; gives it up once the server is to stop. An
    /// accept with its own cancellation right behind it takes what is queued and never waits. A
    /// full server has nothing armed, so no accept's end would tell when to begin.
    fn sweep(&mut self, phase: Phase, room: u32) {
        if phase == Phase::Serving {
            return;
        }
        let mut room = room;
        let disarmed = |(_, listener): &(usize, &mut Listener)| !listener.armed;
        for (index, listener) in self.listeners.iter_mut().enumerate().filter(disarmed) {
            if phase == Phase::Stopping && listener.sweep != Sweep::InFlight {
                listener.socket = None;
            }
            let (Some(socket), Sweep::Next, 1..) = (&listener.socket, listener.sweep, room) else {
                continue;
            };
            let id = ListenerId(u8::try_from(index).expect("at most 64 listeners"));
            self.ring.accept_one(socket.as_fd(), u32::from(id.0), accept_token(id));
            self.ring.cancel(accept_token(id), CANCEL);
            listener.sweep = Sweep::InFlight;
            room -= 1;
        }
    }

    fn sweeps_done(&self) -> bool {
        self.listeners.iter().all(|listener| listener.socket.is_none())
    }
}

const CANCEL: Token = Token::new(Op::Cancel, 0, 0);

const fn accept_token(listener: ListenerId) -> Token {
    Token::new(Op::Accept, listener.0 as u32, 0)
}

fn listener_of(token: Token) -> ListenerId {
    ListenerId(u8::try_from(token.index()).expect("an accept token"))
}

fn token(op: Op, conn: ConnId) -> Token {
    Token::new(op, conn.index(), conn.generation())
}

const fn piece(span: &Span) -> Piece {
    Piece { buffer: span.buf.0, offset: span.offset, len: span.len }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// accept(2): network errors of the new socket are reported here and mean "try the next one".
/// What is not known here is treated like a shortage: asked again, but not at once.
const fn accept_end(result: Result<u32, Errno>) -> AcceptEnd {
    match result {
        Ok(_) => AcceptEnd::Complete,
        Err(Errno::CANCELED) => AcceptEnd::Cancelled,
        Err(
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::INTR
            | Errno::AGAIN
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT,
        ) => AcceptEnd::Aborted,
        Err(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP) => AcceptEnd::Fatal,
        Err(_) => AcceptEnd::Exhausted,
    }
}

const fn receive_end(result: Result<u32, Errno>) -> RecvEnd {
    match result {
        Ok(0) => RecvEnd::Eof,
        Ok(_) => RecvEnd::Complete,
        Err(Errno::NOBUFS) => RecvEnd::NoBuffers,
        Err(Errno::CANCELED) => RecvEnd::Cancelled,
        Err(_) => RecvEnd::Failed,
    }
}
