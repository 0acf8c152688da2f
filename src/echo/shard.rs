//! All connections of one worker: handles events, emits actions.

mod slow_peers;

use super::accept::Acceptor;
use super::buffers::Buffers;
use super::connection::{AfterReceive, Connection, ListKind};
use super::holding::Holding;
use super::limits::Credit;
use super::parked::Parked;
use super::peers::{PeerIndex, Peers};
use super::timers::Timer;
use super::{
    AcceptEnd, Action, BufId, ConnId, Event, Limits, ListenerId, Nanos, PeerKey, RecvEnd, SocketId,
    Stats,
};
use crate::slots::Slots;

/// The connections of one worker and everything they share.
///
/// Feed it every event in the order it happened and carry out every action in the order given.
/// Everything is allocated by [`Shard::new`].
#[derive(Debug)]
pub struct Shard {
    limits: Limits,
    credit: Credit,
    slots: Slots<Connection>,
    buffers: Buffers,
    acceptor: Acceptor,
    parked: Parked,
    idle: Timer,
    write: Timer,
    holding: Holding,
    peers: Option<Peers>,
    mode: Mode,
    now: Nanos,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Fresh,
    Serving,
    Draining { until: Option<Nanos> },
    Stopped,
}

impl Shard {
    /// A shard that does nothing until [`Event::Start`].
    ///
    /// # Panics
    /// If `limits` make no sense: a zero, or a credit of less than one buffer.
    pub fn new(limits: Limits) -> Self {
        limits.assert_sound();
        let peers = limits.max_per_ip.map(|limit| Peers::new(limit, limits.max_connections));
        Self {
            credit: limits.credit(),
            slots: Slots::new(limits.max_connections),
            buffers: Buffers::new(&limits),
            acceptor: Acceptor::new(limits.listeners, limits.accept_burst, limits.accept_backoff),
            parked: Parked::new(limits.accept_backoff),
            idle: Timer::new(ListKind::Idle, limits.idle_timeout),
            write: Timer::new(ListKind::Write, limits.write_timeout),
            holding: Holding::new(limits.room_grace),
            peers,
            mode: Mode::Fresh,
            now: Nanos(0),
            stats: Stats::default(),
            limits,
        }
    }

    /// Handles one event, at time `now`, and emits the actions that follow from it.
    ///
    /// An event that contradicts what is known of its connection costs that connection and is
    /// counted ([`Stats::slips`]).
    ///
    /// # Panics
    /// If the event breaks the contract of [`Event`] for all: a buffer came twice, more connections
    /// came than were asked for.
    pub fn handle(&mut self, now: Nanos, event: Event, emit: &mut impl FnMut(Action<'_>)) {
        self.now = self.now.max(now);
        match event {
            Event::Accepted { listener, socket, peer } => {
                self.accepted(listener, socket, peer, emit);
            }
            Event::AcceptEnded { listener, end } => self.accept_ended(listener, end, emit),
            Event::Received { conn, buf, len, continues } => {
                self.received(conn, buf, len, continues, emit);
            }
            Event::RecvEnded { conn, end } => self.recv_ended(conn, end, emit),
            Event::Sent { conn, len } => self.sent(conn, len, emit),
            Event::SendFailed { conn } => self.send_failed(conn, emit),
            Event::Writable { conn } => self.writable(conn, emit),
            Event::Unsent { conn, bytes } => self.unsent(conn, bytes, emit),
            Event::Closed { conn } => self.closed(conn, emit),
            Event::Tick => self.tick(emit),
            Event::Start => self.start(emit),
            Event::Drain => self.drain(emit),
            Event::Stop => self.stop(emit),
        }
        self.parked.wake(&mut self.slots, &mut self.buffers, emit);
        self.relieve(emit);
    }

    /// When the next [`Event::Tick`] is due, if nothing else happens; a late one does no harm.
    pub fn deadline(&self) -> Option<Nanos> {
        let drain = match self.mode {
            Mode::Draining { until } => until,
            _ => None,
        };
        let idle = self.idle.deadline(&self.slots);
        let write = self.write.deadline(&self.slots);
        let parked = self.parked.deadline(&self.buffers);
        let relief = self.relief_deadline();
        [self.acceptor.deadline(), idle, write, parked, relief, drain].into_iter().flatten().min()
    }

    /// How many connections are open, closing ones included.
    pub fn open(&self) -> u32 {
        self.slots.used()
    }

    /// While draining: whether the engine may take one connection out of the queue of `listener`.
    /// If so it accepts without waiting and reports what came, then [`Event::AcceptEnded`]; the
    /// slot is reserved until then.
    pub fn begin_queued_accept(&mut self, listener: ListenerId) -> bool {
        self.acceptor.begin_queued(listener, self.slots.free())
    }

    /// Everything is being closed: a stop was asked for, or the drain timeout has passed.
    pub fn is_stopped(&self) -> bool {
        self.mode == Mode::Stopped
    }

    /// Drained or stopped: no connection is open and no accept is armed.
    pub fn is_finished(&self) -> bool {
        let ending = matches!(self.mode, Mode::Draining { .. } | Mode::Stopped);
        ending && self.slots.used() == 0 && !self.acceptor.is_armed()
    }

    /// The first listener that became unusable.
    pub fn fault(&self) -> Option<ListenerId> {
        self.acceptor.fault()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Buffers that hold bytes, or that the kernel may be filling: not free.
    pub fn buffers_in_use(&self) -> u16 {
        self.limits.buffers - self.buffers.free()
    }

    /// Connections that wait for a buffer.
    pub fn parked(&self) -> u32 {
        self.parked.len()
    }

    /// Whether every buffer and every slot is free and no list has an entry.
    pub fn is_quiescent(&self) -> bool {
        let timers = self.idle.is_empty() && self.write.is_empty();
        let lists = timers && self.parked.is_empty() && self.holding.is_empty();
        let peers = self.peers.as_ref().is_none_or(Peers::is_empty);
        self.slots.used() == 0 && self.buffers.all_free() && lists && peers
    }

    /// Panics if the parts contradict each other: for tests, as it walks everything.
    pub fn assert_sound(&self) {
        let mut held = self.buffers.shared();
        for index in 0..self.slots.capacity() {
            if self.slots.id_at(index).is_some() {
                let parked = self.parked.contains(&self.slots, index);
                self.assert_waits_are_known(index);
                held += self.slots.at(index).assert_sound(&self.buffers, parked);
            }
        }
        assert_eq!(held, self.limits.buffers - self.buffers.free(), "a buffer is lost");
        assert_eq!(self.stats.accepted - self.stats.closed, u64::from(self.open()));
        self.acceptor.assert_sound(self.slots.free());
    }

    fn accepted(
        &mut self,
        listener: ListenerId,
        socket: SocketId,
        peer: Option<PeerKey>,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        self.acceptor.accepted(listener, self.slots.free());
        self.stats.accepted += 1;
        let greeting = u8::try_from(self.limits.greeting).expect("checked by Limits");
        let admitted = self.admit(peer);
        let counted_as = admitted.unwrap_or(PeerIndex::NOBODY);
        let conn = Connection::new(socket, greeting, counted_as);
        let id = self.slots.insert(conn).expect("the acceptor reserves a slot for each connection");
        if admitted.is_none() {
            self.stats.refused_by_ip += 1;
            self.abort(id, emit);
        } else if self.mode == Mode::Stopped {
            self.cut_short(id, emit);
        } else {
            self.begin(id, emit);
        }
        self.acceptor.arm(self.slots.free(), self.now, emit);
    }

    fn accept_ended(
        &mut self,
        listener: ListenerId,
        end: AcceptEnd,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        self.acceptor.ended(listener, end, self.now, &mut self.stats);
        self.acceptor.arm(self.slots.free(), self.now, emit);
    }

    fn received(
        &mut self,
        id: ConnId,
        buf: BufId,
        len: u32,
        continues: bool,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        self.buffers.take(buf, len);
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return self.buffers.release(buf, emit);
        };
        if !conn.is_receiving() {
            self.buffers.release(buf, emit);
            return self.slip(id, emit);
        }
        self.stats.bytes_in += u64::from(len);
        if conn.received(buf, continues, &mut self.buffers, emit) {
            self.stats.gathered += 1;
        }
        if !conn.is_alive() {
            return;
        }
        if conn.pace().is_watching() {
            self.holding.update(&mut self.slots, id.index());
        }
        if continues {
            return;
        }
        self.idle.restart(&mut self.slots, id.index(), self.now);
        self.flush(id, emit);
        self.throttle(id, emit);
    }

    fn recv_ended(&mut self, id: ConnId, end: RecvEnd, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return;
        };
        if !conn.is_receiving() {
            return self.slip(id, emit);
        }
        let credit = self.credit.while_free(self.buffers.unreserved(), self.limits.buffers);
        match conn.recv_ended(id, end, credit, &mut self.buffers, emit) {
            AfterReceive::Nothing => self.close_if_done(id, emit),
            AfterReceive::Abort => self.reset(id, emit),
            AfterReceive::Watch => self.write.begin(&mut self.slots, id.index(), self.now),
            AfterReceive::Park => {
                self.stats.parked += 1;
                self.parked.push(&mut self.slots, id.index(), self.now);
            }
        }
    }

    fn sent(&mut self, id: ConnId, len: u32, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return;
        };
        if !conn.is_sending_at_least(len) {
            return self.slip(id, emit);
        }
        self.stats.bytes_out += u64::from(len);
        let is_whole = conn.sent(len, &mut self.buffers, emit);
        if !conn.is_alive() {
            return self.close_if_done(id, emit);
        }
        if len > 0 {
            self.idle.restart(&mut self.slots, id.index(), self.now);
        }
        if !is_whole {
            return self.stall(id, emit);
        }
        self.go_on(id, emit);
    }

    /// Nothing of the connection is waited for: receives more, sends what is owed.
    fn go_on(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else { return };
        if conn.pace().is_cautious() {
            self.holding.update(&mut self.slots, id.index());
        }
        let credit = self.credit.while_free(self.buffers.unreserved(), self.limits.buffers);
        let Some(conn) = self.slots.get_mut(id) else { return };
        if conn.resume(id, credit, &mut self.buffers, emit) {
            self.write.begin(&mut self.slots, id.index(), self.now);
        }
        self.flush(id, emit);
        self.close_if_done(id, emit);
    }

    fn send_failed(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return;
        };
        if !conn.is_sending() {
            return self.slip(id, emit);
        }
        conn.send_failed(&mut self.buffers, emit);
        if conn.is_alive() {
            return self.reset(id, emit);
        }
        self.close_if_done(id, emit);
    }

    fn closed(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        if self.slots.get(id).is_some_and(|conn| !conn.is_closing()) {
            return self.slip(id, emit);
        }
        let Some(conn) = self.slots.remove(id) else {
            self.stats.stale += 1;
            return;
        };
        self.stats.closed += 1;
        if let Some(peers) = &mut self.peers {
            peers.leave(conn.peer());
        }
        self.acceptor.freed();
        self.acceptor.arm(self.slots.free(), self.now, emit);
    }

    fn tick(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        if matches!(self.mode, Mode::Draining { until: Some(end) } if end <= self.now) {
            return self.stop(emit);
        }
        while let Some(index) = self.idle.expired(&mut self.slots, self.now) {
            self.stats.idle_timeouts += 1;
            self.abort_at(index, emit);
        }
        while let Some(index) = self.write.expired(&mut self.slots, self.now) {
            self.question(index, emit);
        }
        self.relieve(emit);
        self.parked.tick(&mut self.buffers, self.now);
        self.acceptor.tick(self.now, emit);
        self.acceptor.arm(self.slots.free(), self.now, emit);
    }

    fn start(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        if self.mode == Mode::Fresh {
            self.mode = Mode::Serving;
            self.acceptor.start();
            self.acceptor.arm(self.slots.free(), self.now, emit);
        }
    }

    fn drain(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        if matches!(self.mode, Mode::Fresh | Mode::Serving) {
            let until = self.limits.drain_timeout.map(|timeout| self.now.plus(timeout));
            self.mode = Mode::Draining { until };
            self.acceptor.stop(emit);
        }
    }

    fn stop(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        if self.mode == Mode::Stopped {
            return;
        }
        self.mode = Mode::Stopped;
        self.acceptor.stop(emit);
        // The last first: their receives are at the heads of the lists that the kernel searches to
        // cancel them. With 20,000 connections a list has more than a hundred.
        for index in (0..self.slots.capacity()).rev() {
            if let Some(id) = self.slots.id_at(index) {
                self.cut_short(id, emit);
            }
        }
    }

    /// A new connection: sends the greeting and arms the receive at the same time.
    fn begin(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        self.idle.restart(&mut self.slots, id.index(), self.now);
        self.flush(id, emit);
        if let Some(conn) = self.slots.get_mut(id) {
            conn.arm_first(id, emit);
        }
    }

    fn admit(&mut self, peer: Option<PeerKey>) -> Option<PeerIndex> {
        match (&mut self.peers, peer) {
            (Some(peers), Some(key)) => peers.admit(key),
            _ => Some(PeerIndex::NOBODY),
        }
    }

    fn flush(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else { return };
        if conn.flush(id, &self.buffers, emit) {
            self.stats.sends += 1;
        }
    }

    fn throttle(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else { return };
        if conn.throttle(id, self.credit, emit) {
            self.stats.credit_stops += 1;
        }
    }

    fn reset(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        self.stats.reset += 1;
        self.abort(id, emit);
    }

    /// An event contradicts what is known of the connection, which is given up.
    fn slip(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        self.stats.slips += 1;
        if self.slots.get(id).is_some_and(Connection::is_alive) {
            self.abort(id, emit);
        }
    }

    fn cut_short(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        if self.slots.get(id).is_some_and(Connection::is_alive) {
            self.stats.cut_short += 1;
            self.abort(id, emit);
        }
    }

    fn abort_at(&mut self, index: u32, emit: &mut impl FnMut(Action<'_>)) {
        let id = self.slots.id_at(index).expect("a connection with a timer is open");
        self.abort(id, emit);
    }

    fn abort(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        self.unlink(id);
        if let Some(conn) = self.slots.get_mut(id) {
            conn.abort(id, &mut self.buffers, emit);
        }
        self.close_if_done(id, emit);
    }

    fn close_if_done(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let in_order = self.slots.get(id).is_some_and(Connection::is_alive);
        if self.slots.get_mut(id).is_some_and(|conn| conn.close_if_done(id, emit)) {
            self.stats.finished += u64::from(in_order);
            self.unlink(id);
        }
    }

    /// Removes the connection from every list: no timer and no wake is to reach it any more.
    fn unlink(&mut self, id: ConnId) {
        self.idle.remove(&mut self.slots, id.index());
        self.write.remove(&mut self.slots, id.index());
        self.holding.remove(&mut self.slots, id.index());
        self.parked.remove(&mut self.slots, id.index());
    }
}
