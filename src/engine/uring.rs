//! The default engine: completions in, submissions out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tracing::{debug, warn};

use super::accepted::{PEER_LOG, PeerTracking, accept_end};
use super::context::WorkerContext;
use super::error::EngineError;
use super::stamper::Stamper;
use super::worker::{BATCH, Kernel};
use crate::echo::{
    AcceptEnd, Action, BufId, Burst, ConnId, Event, ListenerId, MAX_SPANS, RecvEnd, SocketId,
    Source, Span,
};
use crate::ring::{Completion, Handle, MAX_PIECES, Op, Piece, Ring, Token};
use crate::shutdown::{Control, Phase};
use crate::stamp::FRAME_LEN;

const _: () = assert!(MAX_SPANS <= MAX_PIECES, "a coalesced send must fit one message");

/// A ring and its listeners.
pub(super) struct Uring {
    ring: Ring,
    batch: Vec<Completion>,
    listeners: Vec<Listener>,
    stamper: Option<Stamper>,
    /// Only single accepts report the peer's address. They are made where a limit depends on it; a
    /// line in the log is no reason to accept in another way.
    peers: PeerTracking,
    fault: Option<Errno>,
    control: Arc<Control>,
    /// Index of this worker.
    index: usize,
}

struct Listener {
    socket: Option<Arc<OwnedFd>>,
    /// An accept is in flight.
    armed: bool,
    /// It was armed to empty the queue during a drain: its cancellation is in flight too.
    drains: bool,
}

impl Kernel for Uring {
    fn new(context: &WorkerContext) -> Result<Self, EngineError> {
        let mut ring = Ring::new(&context.limits.ring)?;
        ring.watch(context.control.wake_fd(context.index), WAKE);
        let listener = |socket: &Arc<OwnedFd>| Listener {
            socket: Some(Arc::clone(socket)),
            armed: false,
            drains: false,
        };
        Ok(Self {
            ring,
            batch: Vec::with_capacity(BATCH),
            listeners: context.listeners.iter().map(listener).collect(),
            stamper: if context.config.stamp { Some(Stamper::new(context)?) } else { None },
            peers: PeerTracking::new(context),
            fault: None,
            control: Arc::clone(&context.control),
            index: context.index,
        })
    }

    fn degraded(&self) -> &[String] {
        self.ring.degraded()
    }

    /// Completions that were reaped with the one that led to the cancel are handled after it. Where
    /// task work runs at any time, the queue fills once more before the cancel is submitted.
    fn accept_burst(&self) -> u32 {
        let slots = self.ring.completion_slots();
        if self.ring.features().deferred_work { slots } else { slots.saturating_mul(2) }
    }

    /// One action, one submission.
    fn carry_out(&mut self, now: u64, action: Action<'_>) {
        match action {
            Action::ArmAccept { listener, burst } => self.arm_accept(listener, burst),
            Action::CancelAccept { listener } => {
                self.ring.cancel(accept_token(listener), CANCEL);
            }
            Action::ArmRecv { conn, socket, max_buffers } => {
                self.ring.receive_some(self.handle(socket), max_buffers, token(Op::Recv, conn));
            }
            Action::CancelRecv { conn, .. } => self.ring.cancel(token(Op::Recv, conn), CANCEL),
            Action::Send { conn, socket, source } => self.send(now, conn, socket, source),
            Action::WatchWritable { conn, socket } => {
                self.ring.watch_writable(self.handle(socket), token(Op::Writable, conn));
            }
            Action::AskUnsent { conn, socket } => {
                self.ring.ask_unsent(self.handle(socket), token(Op::Unsent, conn));
            }
            Action::Copy { span, to, at } => self.ring.copy(piece(&span), to.0, at),
            Action::Release { buf } => self.ring.release(buf.0),
            // By name: the kernel finds a cancelled operation by a hash of that, but by its socket
            // only by looking at all that are armed.
            Action::CancelAll { conn, receives, watches, .. } => {
                let armed = [(Op::Recv, receives), (Op::Writable, watches)];
                for (op, _) in armed.into_iter().filter(|(_, is_armed)| *is_armed) {
                    self.ring.cancel(token(op, conn), CANCEL);
                }
            }
            // close(2) suffices in both cases: when everything owed was sent and the peer's end of
            // stream was read, it sends the same FIN as shutdown(SHUT_WR). IORING_OP_SHUTDOWN is
            // always handed to a kernel worker thread.
            Action::Close { conn, socket, .. } => {
                let socket = self.ring.direct(socket.0);
                self.ring.close_direct(socket, token(Op::Close, conn));
            }
        }
    }

    fn submit(&mut self) -> Result<(), EngineError> {
        Ok(self.ring.submit()?)
    }

    #[inline]
    fn poll(&mut self) -> Result<bool, EngineError> {
        self.ring.poll()?;
        Ok(self.ring.is_ready())
    }

    fn wait(&mut self, limit: Option<Duration>) -> Result<(), EngineError> {
        Ok(self.ring.wait(limit)?)
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.reap(&mut batch);
        for done in batch.iter().filter(|done| done.token.op() == Op::Accept) {
            self.reap_accept(done, events);
        }
        for done in batch.iter().filter(|done| done.token.op() != Op::Accept) {
            self.reap_other(done, events);
        }
        self.batch = batch;
    }

    /// An accept with its own cancellation submitted right behind it takes a queued connection and
    /// never waits. It starts here and not at the end of an armed accept, because a full server has
    /// none armed.
    fn drain_accept_queue(&mut self, phase: Phase, mut may_take: impl FnMut(ListenerId) -> bool) {
        let disarmed = |(_, listener): &(usize, &mut Listener)| !listener.armed;
        for (index, listener) in self.listeners.iter_mut().enumerate().filter(disarmed) {
            if phase == Phase::Stopping {
                listener.socket = None;
            }
            let id = ListenerId(u8::try_from(index).expect("at most 64 listeners"));
            let Some(socket) = &listener.socket else { continue };
            if may_take(id) {
                self.ring.accept_one(socket, accept_token(id));
                self.ring.cancel(accept_token(id), CANCEL);
                (listener.armed, listener.drains) = (true, true);
            }
        }
    }

    fn listeners_closed(&self) -> bool {
        self.listeners.iter().all(|listener| listener.socket.is_none())
    }

    fn fault(&self) -> Option<Errno> {
        self.fault
    }
}

impl Uring {
    fn reap_accept(&mut self, done: &Completion, events: &mut Vec<Event>) {
        let listener = listener_of(done.token);
        if let Ok(slot) = done.result {
            let peer = if self.peers.counts() {
                let peer = self.ring.accepted_peer(u32::from(listener.0));
                peer.map(|peer| self.peers.record(peer))
            } else {
                self.ask_for_peer(slot);
                None
            };
            events.push(Event::Accepted { listener, socket: SocketId(slot), peer });
        }
        if done.more {
            return;
        }
        let end = accept_end(done.result);
        let entry = &mut self.listeners[usize::from(listener.0)];
        entry.armed = false;
        if std::mem::take(&mut entry.drains) {
            entry.queued_accept_ended(end);
        } else if let (AcceptEnd::Fatal, Err(errno)) = (end, done.result) {
            self.fault = Some(errno);
        }
        events.push(Event::AcceptEnded { listener, end });
    }

    /// Has the log tell whose connection the one in `slot` is, if it tells that of each.
    fn ask_for_peer(&mut self, slot: u32) {
        if !self.peers.logs() {
            return;
        }
        if self.ring.features().peers {
            self.ring.look_up_peer(self.ring.direct(slot), Token::new(Op::Peer, slot, 0));
        } else {
            debug!(target: PEER_LOG, "accepted");
        }
    }

    fn log_peer(&mut self) {
        match self.ring.found_peer() {
            Some(Ok(peer)) => debug!(target: PEER_LOG, %peer, "accepted"),
            Some(Err(error)) => debug!(target: PEER_LOG, %error, "accepted"),
            None => {}
        }
    }

    fn reap_other(&mut self, done: &Completion, events: &mut Vec<Event>) {
        let conn = ConnId::new(done.token.index(), done.token.generation());
        match (done.token.op(), done.result) {
            (Op::Recv, _) => self.reap_receive(conn, done, events),
            (Op::Send, Ok(len)) => events.push(Event::Sent { conn, len }),
            (Op::Send, Err(Errno::AGAIN)) => events.push(Event::Sent { conn, len: 0 }),
            (Op::Send, Err(_)) => events.push(Event::SendFailed { conn }),
            (Op::Writable, _) => events.push(Event::Writable { conn }),
            (Op::Unsent, result) => events.push(Event::Unsent { conn, bytes: result.ok() }),
            (Op::Close, result) => {
                // The descriptor is closed in any case; an error is about bytes already given up.
                if let Err(error) = result {
                    debug!(%error, ?conn, "close");
                }
                events.push(Event::Closed { conn });
            }
            (Op::Peer, _) => self.log_peer(),
            (Op::Wake, _) if !done.more => {
                self.ring.watch(self.control.wake_fd(self.index), WAKE);
            }
            _ => {}
        }
    }

    fn reap_receive(&mut self, conn: ConnId, done: &Completion, events: &mut Vec<Event>) {
        match (done.result, done.buffer) {
            (Ok(len), Some(buf)) if len > 0 => {
                let (buf, continues) = (BufId(buf), done.continues);
                events.push(Event::Received { conn, buf, len, continues });
            }
            (_, Some(buf)) => self.ring.release(buf),
            (_, None) => {}
        }
        if !done.more {
            let end = match receive_end(done.result) {
                RecvEnd::NoBuffers if !self.ring.is_out_of_buffers() => RecvEnd::Complete,
                end => end,
            };
            events.push(Event::RecvEnded { conn, end });
        }
    }

    fn arm_accept(&mut self, listener: ListenerId, burst: Burst) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        let Some(socket) = &entry.socket else { return };
        entry.armed = true;
        let token = accept_token(listener);
        match burst {
            Burst::Many if !self.peers.counts() => self.ring.accept_many(socket, token),
            _ => self.ring.accept_one(socket, token),
        }
    }

    fn send(&mut self, now: u64, conn: ConnId, socket: SocketId, source: Source<'_>) {
        let (socket, token) = (self.handle(socket), token(Op::Send, conn));
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
                // The shard asks for it while it handles the accept: `now` is when that was reaped.
                if offset == 0 {
                    let stamper = self.stamper.as_mut().expect("a greeting is a stamp");
                    self.ring.stage(start, &stamper.next(now));
                }
                self.ring.try_send_staged(socket, start + offset as usize, len, token);
            }
        }
    }

    /// An operation on a socket that is not there fails, which ends that one connection.
    fn handle(&self, socket: SocketId) -> Handle<'static> {
        Handle::Direct(self.ring.direct(socket.0))
    }
}

impl Listener {
    /// An accept of the drain has ended, cancelled if the queue was empty. Closes the listener
    /// then, and also if the system cannot accept any more.
    fn queued_accept_ended(&mut self, end: AcceptEnd) {
        match end {
            AcceptEnd::Complete | AcceptEnd::Aborted => return,
            AcceptEnd::Cancelled => {}
            AcceptEnd::Exhausted | AcceptEnd::Fatal => {
                warn!(?end, "who is still queued is turned away: accept failed");
            }
        }
        self.socket = None;
    }
}

const WAKE: Token = Token::new(Op::Wake, 0, 0);
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

const fn receive_end(result: Result<u32, Errno>) -> RecvEnd {
    match result {
        Ok(0) => RecvEnd::Eof,
        Ok(_) => RecvEnd::Complete,
        Err(Errno::NOBUFS) => RecvEnd::NoBuffers,
        Err(Errno::CANCELED) => RecvEnd::Cancelled,
        Err(_) => RecvEnd::Failed,
    }
}
