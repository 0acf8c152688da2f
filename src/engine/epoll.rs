//! The engine on epoll(7), edge-triggered: the same shard, driven by readiness.
//!
//! An action that can be carried out at once is, and its end is reported with the next events: the
//! shard cannot tell it from an operation that completed soon.

mod pool;
mod sending;
mod sockets;
mod writable;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SocketFlags, acceptfrom_with, recv};
use rustix::time::Timespec;
use tracing::warn;

use self::pool::Pool;
use self::sockets::{NOT_A_SOCKET, SocketKey, Sockets};
use super::accepted::{PeerTracking, accept_end};
use super::context::WorkerContext;
use super::error::EngineError;
use super::stamper::Stamper;
use super::worker::{BATCH, Kernel};
use crate::echo::{AcceptEnd, Action, Burst, ConnId, Event, ListenerId, RecvEnd, SocketId};
use crate::shutdown::Phase;
use crate::stamp::FRAME_LEN;

/// Reads, and accepts, between two polls at most: a busy socket must not starve the others.
const BUDGET_PER_POLL: u32 = 64;
/// The longest single wait: kernels before 5.11 limit it. Waking early does no harm.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

const WAKE: u64 = NOT_A_SOCKET | 1 << 62;
const READS: EventFlags =
    EventFlags::IN.union(EventFlags::PRI).union(EventFlags::RDHUP).union(EventFlags::ET);

/// An epoll instance and the sockets it watches.
pub(super) struct Epoll {
    epoll: OwnedFd,
    /// Readiness that the last poll found; `next_ready` is the first entry not handled yet.
    ready: Vec<epoll::Event>,
    next_ready: usize,
    listeners: Vec<Listener>,
    /// Listeners are tried in turn, starting after the last one that had a connection.
    next_listener: usize,
    sockets: Sockets,
    /// Sockets that may have more to read than one buffer took, first in, first out.
    unread: VecDeque<SocketKey>,
    reads_left: u32,
    accepts_left: u32,
    pool: Pool,
    /// Greetings, one slot per connection.
    staging: Vec<u8>,
    /// Events of actions that ended at once.
    completed: VecDeque<Event>,
    stamper: Option<Stamper>,
    peers: PeerTracking,
    fault: Option<Errno>,
}

struct Listener {
    socket: Option<Arc<OwnedFd>>,
    armed: Option<Burst>,
    /// A connection may be queued: the last accept did not return EAGAIN.
    ready: bool,
}

impl Kernel for Epoll {
    fn new(context: &WorkerContext) -> Result<Self, EngineError> {
        let step = |step| move |source| EngineError::System { step, source };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(step("epoll_create"))?;
        let limits = &context.limits.shard;
        for (index, socket) in context.listeners.iter().enumerate() {
            // A shared listener wakes all workers: with EPOLLEXCLUSIVE the only one woken might be
            // full.
            let data = EventData::new_u64(NOT_A_SOCKET | index as u64);
            let flags = EventFlags::IN | EventFlags::ET;
            rustix::io::ioctl_fionbio(socket, true)
                .map_err(step("making a listener non-blocking"))?;
            epoll::add(&epoll, socket, data, flags).map_err(step("watching a listener"))?;
        }
        let wake_fd = context.control.wake_fd(context.index);
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, wake_fd, EventData::new_u64(WAKE), flags)
            .map_err(step("watching the wake fd"))?;
        let listener = |socket: &Arc<OwnedFd>| Listener {
            socket: Some(Arc::clone(socket)),
            armed: None,
            ready: false,
        };
        let greetings = if context.config.stamp { limits.max_connections as usize } else { 0 };
        Ok(Self {
            epoll,
            ready: Vec::with_capacity(BATCH),
            next_ready: 0,
            listeners: context.listeners.iter().map(listener).collect(),
            next_listener: 0,
            sockets: Sockets::new(limits.max_connections),
            unread: VecDeque::with_capacity(limits.max_connections as usize),
            reads_left: 0,
            accepts_left: 0,
            pool: Pool::new(limits.buffers, limits.buffer_size),
            staging: vec![0; greetings * FRAME_LEN],
            // Per connection at most the end of a receive, of a send, of a wait for room and of the
            // close, and one answer.
            completed: VecDeque::with_capacity(5 * limits.max_connections as usize + BATCH),
            stamper: if context.config.stamp { Some(Stamper::new(context)?) } else { None },
            peers: PeerTracking::new(context),
            fault: None,
        })
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    /// An accept is one call, over before it could be cancelled.
    fn accept_burst(&self) -> u32 {
        1
    }

    fn carry_out(&mut self, now: u64, action: Action<'_>) {
        match action {
            Action::ArmAccept { listener, burst } => {
                self.listeners[usize::from(listener.0)].armed = Some(burst);
            }
            Action::CancelAccept { listener } => {
                self.accept_ended(listener, AcceptEnd::Cancelled);
            }
            Action::ArmRecv { conn, socket, .. } => self.arm_receive(conn, socket),
            Action::CancelRecv { socket, .. } => self.cancel_receive(socket),
            Action::Send { conn, socket, source } => self.send(now, conn, socket, source),
            Action::WatchWritable { conn, socket } => self.watch_writable(conn, socket),
            Action::AskUnsent { conn, socket } => self.answer_unsent(conn, socket),
            Action::Copy { span, to, at } => self.pool.copy(&span, to, at),
            Action::Release { buf } => self.pool.release(buf),
            Action::CancelAll { socket, .. } => {
                self.cancel_receive(socket);
                self.end_watch(socket);
            }
            // close(2) suffices in both cases: when everything is sent and the peer's end of stream
            // was read, it sends the same FIN as shutdown(SHUT_WR).
            Action::Close { conn, socket, .. } => {
                drop(self.sockets.remove(socket));
                self.completed.push_back(Event::Closed { conn });
            }
        }
    }

    /// Nothing is queued for submission: actions are carried out at once.
    fn submit(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    #[inline]
    fn poll(&mut self) -> Result<bool, EngineError> {
        self.poll_kernel(Some(Duration::ZERO))?;
        Ok(self.has_work())
    }

    fn wait(&mut self, limit: Option<Duration>) -> Result<(), EngineError> {
        self.poll_kernel(if self.has_work() { Some(Duration::ZERO) } else { limit })
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        // One accept per call, so that each is stamped with its own time.
        if self.accept_next(events) {
            return;
        }
        events.extend(self.completed.drain(..self.completed.len().min(BATCH)));
        while events.is_empty() {
            if let Some(event) = self.ready.get(self.next_ready).copied() {
                self.next_ready += 1;
                self.handle_readiness(event, events);
            } else if !self.read_next(events) {
                return;
            }
        }
    }

    fn drain_accept_queue(&mut self, phase: Phase, mut may_take: impl FnMut(ListenerId) -> bool) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].armed.is_some() || self.listeners[index].socket.is_none() {
                continue;
            }
            if phase == Phase::Stopping {
                self.close_listener(index);
            } else if may_take(listener_id(index)) {
                self.take_queued(index);
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

impl Epoll {
    fn poll_kernel(&mut self, limit: Option<Duration>) -> Result<(), EngineError> {
        (self.reads_left, self.accepts_left) = (BUDGET_PER_POLL, BUDGET_PER_POLL);
        if self.next_ready < self.ready.len() {
            // Each edge is reported once: the rest of the last poll is handled first.
            return Ok(());
        }
        self.ready.clear();
        self.next_ready = 0;
        let limit = limit.map(|limit| limit.min(LONGEST_WAIT)).map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => return Err(EngineError::System { step: "epoll_wait", source }),
        }
        for event in &self.ready {
            if let Some(listener) = listener_of(event.data.u64()) {
                self.listeners[listener].ready = true;
            }
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        let may_accept = |l: &Listener| l.ready && l.armed.is_some();
        self.next_ready < self.ready.len()
            || !self.completed.is_empty()
            || !self.unread.is_empty()
            || self.listeners.iter().any(may_accept)
    }

    /// Accepts one connection, or reports why an accept ended; false if the queues are empty or
    /// the budget of this poll is used up.
    fn accept_next(&mut self, events: &mut Vec<Event>) -> bool {
        if self.accepts_left == 0 {
            return false;
        }
        let count = self.listeners.len();
        for index in (self.next_listener..count).chain(0..self.next_listener) {
            let Listener { ready: true, armed: Some(burst), .. } = self.listeners[index] else {
                continue;
            };
            let accepted = self.accept(index);
            self.accepts_left = self.accepts_left.saturating_sub(1);
            if accepted == Err(Errno::AGAIN) {
                self.listeners[index].ready = false;
                continue;
            }
            self.next_listener = (index + 1) % count;
            events.extend(accepted.ok());
            if let (Ok(_), Burst::Many) = (accepted, burst) {
                return true;
            }
            let end = accept_end(accepted.map(|_| 0));
            if end == AcceptEnd::Fatal {
                self.fault = accepted.err();
            }
            self.listeners[index].armed = None;
            events.push(Event::AcceptEnded { listener: listener_id(index), end });
            return true;
        }
        false
    }

    fn accept(&mut self, index: usize) -> Result<Event, Errno> {
        let Some(listener) = &self.listeners[index].socket else { return Err(Errno::AGAIN) };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, addr) = acceptfrom_with(listener, flags)?;
        let addr = addr.filter(|_| self.peers.is_needed()).and_then(|addr| addr.try_into().ok());
        let peer = addr.map(|addr| self.peers.record(addr));
        let key = self.sockets.insert(fd);
        let fd = &self.sockets.at(key.socket()).fd;
        let watched = epoll::add(&self.epoll, fd, EventData::new_u64(key.to_bits()), READS);
        if let Err(error) = watched {
            warn!(%error, "an accepted connection is lost: epoll_ctl (fs.epoll.max_user_watches?)");
            self.sockets.remove(key.socket());
            return Err(Errno::NOMEM);
        }
        Ok(Event::Accepted { listener: listener_id(index), socket: key.socket(), peer })
    }

    /// Accepts one connection; closes the listener if its queue is empty or accept fails.
    fn take_queued(&mut self, index: usize) {
        let accepted = self.accept(index);
        let end = match accepted {
            Err(Errno::AGAIN) => AcceptEnd::Cancelled,
            accepted => accept_end(accepted.map(|_| 0)),
        };
        self.completed.extend(accepted.ok());
        self.completed.push_back(Event::AcceptEnded { listener: listener_id(index), end });
        if matches!(end, AcceptEnd::Exhausted | AcceptEnd::Fatal) {
            warn!(?end, "who is still queued is turned away: accept failed");
        }
        if !matches!(end, AcceptEnd::Complete | AcceptEnd::Aborted) {
            self.close_listener(index);
        }
    }

    fn accept_ended(&mut self, listener: ListenerId, end: AcceptEnd) {
        if self.listeners[usize::from(listener.0)].armed.take().is_some() {
            self.completed.push_back(Event::AcceptEnded { listener, end });
        }
    }

    fn close_listener(&mut self, index: usize) {
        let Some(listener) = self.listeners[index].socket.take() else { return };
        // Another worker may share the socket, so closing it does not remove it from this epoll.
        if let Err(error) = epoll::delete(&self.epoll, &listener) {
            warn!(%error, "a listener could not be taken out of epoll");
        }
    }

    fn handle_readiness(&mut self, event: epoll::Event, events: &mut Vec<Event>) {
        let (data, flags) = (event.data.u64(), event.flags);
        if data & NOT_A_SOCKET != 0 {
            return;
        }
        let key = SocketKey::from_bits(data);
        if !self.sockets.is_current(key) {
            return;
        }
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let socket = self.sockets.at(key.socket());
        // A read stops short at the end of the stream and at the mark of urgent data, although
        // more bytes follow the mark.
        socket.reads_stop_short |= gone || flags.intersects(EventFlags::RDHUP | EventFlags::PRI);
        socket.readable |= socket.reads_stop_short || flags.contains(EventFlags::IN);
        if gone || flags.contains(EventFlags::OUT) {
            let watcher = self.sockets.at(key.socket()).watcher.take();
            events.extend(watcher.map(|conn| Event::Writable { conn }));
        }
        self.receive(key.socket(), events);
    }

    /// Reads the next socket that has more; false if there is none or the budget is used up.
    fn read_next(&mut self, events: &mut Vec<Event>) -> bool {
        if self.reads_left == 0 {
            return false;
        }
        let Some(key) = self.unread.pop_front() else { return false };
        if self.sockets.is_current(key) {
            self.reads_left -= 1;
            self.sockets.at(key.socket()).queued = false;
            self.receive(key.socket(), events);
        }
        true
    }

    fn arm_receive(&mut self, conn: ConnId, slot: SocketId) {
        let key = self.sockets.key(slot);
        let socket = self.sockets.at(slot);
        socket.reader = Some(conn);
        if socket.readable && !socket.queued {
            socket.queued = true;
            self.unread.push_back(key);
        }
    }

    fn cancel_receive(&mut self, slot: SocketId) {
        if let Some(conn) = self.sockets.at(slot).reader.take() {
            self.completed.push_back(Event::RecvEnded { conn, end: RecvEnd::Cancelled });
        }
    }

    /// Receives into one buffer, if a receive is armed and the socket may be readable.
    fn receive(&mut self, slot: SocketId, events: &mut Vec<Event>) {
        let socket = self.sockets.at(slot);
        let (Some(conn), true) = (socket.reader, socket.readable) else { return };
        let Some(buf) = self.pool.take() else {
            socket.reader = None;
            return events.push(Event::RecvEnded { conn, end: RecvEnd::NoBuffers });
        };
        let room = self.pool.room(buf);
        let size = room.len();
        let end = match retry_on_intr(|| recv(&socket.fd, &mut *room, RecvFlags::empty())) {
            Ok((0, _)) => RecvEnd::Eof,
            Ok((len, _)) => {
                // A short read has emptied the socket: epoll reports when there is more.
                socket.readable = len == size || socket.reads_stop_short;
                let len = u32::try_from(len).expect("at most a buffer");
                events.push(Event::Received { conn, buf, len, continues: false });
                RecvEnd::Complete
            }
            Err(Errno::AGAIN) => {
                socket.readable = false;
                return self.pool.release(buf);
            }
            Err(_) => RecvEnd::Failed,
        };
        socket.reader = None;
        if end != RecvEnd::Complete {
            self.pool.release(buf);
        }
        events.push(Event::RecvEnded { conn, end });
    }
}

fn listener_id(index: usize) -> ListenerId {
    ListenerId(u8::try_from(index).expect("at most 64 listeners"))
}

fn listener_of(data: u64) -> Option<usize> {
    let is_listener = data & NOT_A_SOCKET != 0 && data != WAKE;
    is_listener.then(|| usize::try_from(data & !NOT_A_SOCKET).expect("at most 64 listeners"))
}
