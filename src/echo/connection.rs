//! One connection: the bytes it owes, its operations in flight, and which may follow.

mod slow;

use super::buffers::{Buffers, Chain};
use super::limits::Credit;
use super::pace::Pace;
use super::peers::PeerIndex;
use super::{Action, BufId, ConnId, MAX_SPANS, Nanos, RecvEnd, SocketId, Source, Span};
use crate::slots::{Link, Linked, Slots};

/// The most buffers one receive is armed for. With more a stream costs less, because fewer of its
/// messages are cut in two where a receive ends; but all of them count as taken.
const MAX_BUFFERS_PER_RECV: u8 = 16;

/// The state of one connection. A table of these is all the memory idle connections take.
#[derive(Debug)]
pub(super) struct Connection {
    socket: SocketId,
    owed: Chain,
    /// Bytes of the send in flight; 0 if there is none.
    sending: u32,
    greeting_sent: u8,
    greeting_left: u8,
    recv: Recv,
    state: State,
    /// Buffers that its armed receive reserves.
    reserved: u8,
    /// Its last receive filled a buffer: there is likely more.
    is_streaming: bool,
    /// The next event brings more bytes of the same receive.
    is_amid_receive: bool,
    peer: PeerIndex,
    pace: Pace,
    links: [Link; 4],
    timer_starts: [Nanos; 2],
}

/// The lists that connections can be in, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    /// In the order of their last activity.
    Idle,
    /// Waiting until their socket is writable, in the order in which they began to.
    Write,
    /// Waiting for a buffer.
    Parked,
    /// Holding buffers that their socket has no room for, since the longest time first.
    Holding,
}

impl Linked for Connection {
    type List = ListKind;

    fn link(&self, list: ListKind) -> &Link {
        &self.links[list as usize]
    }

    fn link_mut(&mut self, list: ListKind) -> &mut Link {
        &mut self.links[list as usize]
    }
}

/// The receive of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recv {
    /// Not armed: the credit, or the share of what is free, is used up.
    Idle,
    Armed,
    /// Armed because a buffer was released, without an event since.
    Woken,
    /// Armed, and its cancel is asked for.
    Cancelling,
    /// Not armed: waiting for a buffer.
    Parked,
    /// Never armed again.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The peer has ended its stream; what is owed is sent before the close.
    Flushing,
    /// Broken or aborted: nothing more is owed, but operations may be in flight.
    Aborting,
    /// The close is asked for.
    Closing,
}

/// What is to be done with a connection after its receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterReceive {
    /// Nothing: the receive is armed again, will be, or never.
    Nothing,
    /// It waits for a buffer.
    Park,
    /// It waits until its socket is writable.
    Watch,
    /// It is aborted.
    Abort,
}

impl Connection {
    pub(super) fn new(socket: SocketId, greeting: u8, peer: PeerIndex) -> Self {
        Self {
            socket,
            owed: Chain::EMPTY,
            sending: 0,
            greeting_sent: 0,
            greeting_left: greeting,
            recv: Recv::Idle,
            state: State::Open,
            reserved: 0,
            is_streaming: false,
            is_amid_receive: false,
            peer,
            pace: Pace::NEW,
            links: [Link::UNLINKED; 4],
            timer_starts: [Nanos(0); 2],
        }
    }

    pub(super) fn peer(&self) -> PeerIndex {
        self.peer
    }

    /// Neither broken nor closing: its peer still gets what is owed.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::Open | State::Flushing)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Whether a send is in flight.
    pub(super) fn is_sending(&self) -> bool {
        self.sending > 0
    }

    /// Whether a send of at least `len` bytes is in flight.
    pub(super) fn is_sending_at_least(&self, len: u32) -> bool {
        self.is_sending() && len <= self.sending
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether bytes are owed that are in the pool.
    pub(super) fn holds(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Arms the receive again after it ended, while `spare` more buffers may be held.
    pub(super) fn arm(
        &mut self,
        id: ConnId,
        spare: u16,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        assert!(matches!(self.recv, Recv::Idle | Recv::Parked), "{id:?} is armed twice");
        assert_eq!(self.state, State::Open, "{id:?} receives after its end");
        if !self.is_streaming {
            return self.submit_receive(id, 1, emit);
        }
        let max_buffers = u8::try_from(spare).unwrap_or(u8::MAX).clamp(1, MAX_BUFFERS_PER_RECV);
        self.reserved = max_buffers;
        buffers.reserve(max_buffers);
        self.submit_receive(id, max_buffers, emit);
    }

    /// Arms the first receive. Like any receive whose predecessor filled no buffer it reserves
    /// nothing: it may stay idle for ever, and if not hardly takes more than one buffer.
    pub(super) fn arm_first(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        assert_eq!(self.recv, Recv::Idle, "{id:?} is armed twice");
        self.submit_receive(id, 1, emit);
    }

    fn submit_receive(&mut self, id: ConnId, max_buffers: u8, emit: &mut impl FnMut(Action<'_>)) {
        self.recv = Recv::Armed;
        emit(Action::ArmRecv { conn: id, socket: self.socket, max_buffers });
    }

    /// Arms the receive after it waited for a buffer.
    pub(super) fn wake(
        &mut self,
        id: ConnId,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        assert_eq!(self.recv, Recv::Parked, "{id:?} was not waiting");
        self.arm(id, 1, buffers, emit);
        self.recv = Recv::Woken;
    }

    /// The kernel put bytes into `buf`. True if they were copied behind earlier ones.
    pub(super) fn received(
        &mut self,
        buf: BufId,
        continues: bool,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let filled_one = self.is_amid_receive && self.is_streaming;
        self.is_streaming = filled_one || buffers.is_full(buf);
        self.is_amid_receive = continues;
        if self.reserved > 0 {
            self.reserved -= 1;
            buffers.unreserve(1);
        }
        if self.recv == Recv::Woken {
            self.recv = Recv::Armed;
        }
        if self.is_alive() {
            return buffers.append(&mut self.owed, buf, emit);
        }
        buffers.release(buf, emit);
        false
    }

    /// Stops the receive once the credit is used up, or its socket has no room: one that was armed
    /// because a buffer was released is let go on until it brings something. True if it did.
    pub(super) fn throttle(
        &mut self,
        id: ConnId,
        credit: Credit,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let is_due = self.owed.count() >= credit.stop || self.pace.is_watching();
        if self.recv != Recv::Armed || !self.is_alive() || !is_due {
            return false;
        }
        self.recv = Recv::Cancelling;
        emit(Action::CancelRecv { conn: id, socket: self.socket });
        true
    }

    /// Arms the receive again if only the credit had stopped it and half of it is free. That of a
    /// slow peer is armed when nothing is owed and the socket is writable: true if that is to be
    /// waited for now.
    pub(super) fn resume(
        &mut self,
        id: ConnId,
        credit: Credit,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        if self.recv != Recv::Idle || self.state != State::Open {
            return false;
        }
        if self.looks_first(credit) {
            return self.watch_before_receive(id, emit);
        }
        if self.owed.count() <= credit.resume {
            self.arm(id, credit.stop - self.owed.count(), buffers, emit);
        }
        false
    }

    /// The receive is over.
    pub(super) fn recv_ended(
        &mut self,
        id: ConnId,
        end: RecvEnd,
        credit: Credit,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> AfterReceive {
        buffers.unreserve(std::mem::take(&mut self.reserved));
        if self.recv == Recv::Woken && end != RecvEnd::NoBuffers {
            buffers.return_wake();
        }
        let was_cancelled = self.recv == Recv::Cancelling;
        self.recv = Recv::Over;
        if !self.is_alive() {
            return AfterReceive::Nothing;
        }
        match end {
            RecvEnd::Failed => return AfterReceive::Abort,
            RecvEnd::Eof => self.state = State::Flushing,
            RecvEnd::Complete | RecvEnd::Cancelled | RecvEnd::NoBuffers => {
                self.recv = Recv::Idle;
                if self.looks_first(credit) {
                    return self.slow_receive_ended(id, end, emit);
                }
                let limit = if was_cancelled { credit.resume } else { credit.stop - 1 };
                if self.owed.count() > limit {
                    return AfterReceive::Nothing;
                }
                if end == RecvEnd::NoBuffers {
                    self.recv = Recv::Parked;
                    return AfterReceive::Park;
                }
                self.arm(id, credit.stop - self.owed.count(), buffers, emit);
            }
        }
        AfterReceive::Nothing
    }

    /// Sends what is owed, the greeting first, unless a send is in flight or the socket has no
    /// room. True if a send began.
    pub(super) fn flush(
        &mut self,
        id: ConnId,
        buffers: &Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        if self.is_sending() || self.pace.is_watching() || !self.is_alive() {
            return false;
        }
        if self.greeting_left > 0 {
            self.flush_greeting(id, emit);
            return true;
        }
        if self.owed.is_empty() {
            return false;
        }
        let mut room = [Span { buf: BufId(0), offset: 0, len: 0 }; MAX_SPANS];
        let (spans, bytes) = buffers.spans(&self.owed, &mut room);
        self.sending = bytes;
        emit(Action::Send { conn: id, socket: self.socket, source: Source::Spans(spans) });
        true
    }

    /// The send in flight ended after `len` bytes. False if these were not all.
    pub(super) fn sent(
        &mut self,
        len: u32,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let asked = std::mem::take(&mut self.sending);
        self.pace.took(len);
        if !self.is_alive() {
            buffers.abandon(&mut self.owed, 0, emit);
        } else if self.greeting_left > 0 {
            let part = u8::try_from(len).expect("no more than the greeting");
            self.greeting_sent += part;
            self.greeting_left -= part;
        } else {
            buffers.consume(&mut self.owed, len, emit);
        }
        len == asked
    }

    /// The send in flight failed.
    pub(super) fn send_failed(&mut self, buffers: &mut Buffers, emit: &mut impl FnMut(Action<'_>)) {
        self.sending = 0;
        if !self.is_alive() {
            buffers.abandon(&mut self.owed, 0, emit);
        }
    }

    /// Aborts the connection: nothing more is owed, and what is in flight is cancelled.
    pub(super) fn abort(
        &mut self,
        id: ConnId,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        assert!(self.is_alive(), "{id:?} is aborted twice");
        self.state = State::Aborting;
        let (receives, watches) = (self.is_receiving(), self.pace.is_watching());
        if receives || watches || self.is_sending() {
            emit(Action::CancelAll { conn: id, socket: self.socket, receives, watches });
        }
        let keep = if self.greeting_left > 0 { 0 } else { self.sending };
        buffers.abandon(&mut self.owed, keep, emit);
        if !self.is_receiving() {
            self.recv = Recv::Over;
        }
    }

    /// Closes the socket if the connection is over and nothing of it is in flight; while it is
    /// alive that implies that nothing is owed. True if so.
    pub(super) fn close_if_done(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) -> bool {
        let orderly = match self.state {
            State::Open | State::Closing => return false,
            State::Flushing => true,
            State::Aborting => false,
        };
        if self.has_operations() {
            return false;
        }
        assert!(self.owed.is_empty(), "{id:?} closes with bytes owed");
        assert!(!orderly || self.greeting_left == 0, "{id:?} closes without its greeting");
        self.state = State::Closing;
        emit(Action::Close { conn: id, socket: self.socket, orderly });
        true
    }

    /// When the timer that keeps `list` was last restarted for this connection.
    pub(super) fn timer_start(&self, list: ListKind) -> Nanos {
        self.timer_starts[list as usize]
    }

    pub(super) fn timer_start_mut(&mut self, list: ListKind) -> &mut Nanos {
        &mut self.timer_starts[list as usize]
    }

    /// Panics if the parts of the state contradict each other; returns how many buffers it holds.
    pub(super) fn assert_sound(&self, buffers: &Buffers, parked: bool) -> u16 {
        buffers.assert_sound(&self.owed);
        assert_eq!(self.recv == Recv::Parked, parked, "parked, but not in the list");
        let sendable = self.greeting_left > 0 || !self.owed.is_empty();
        let is_waiting = self.pace.is_watching();
        assert!(!(is_waiting && self.is_sending()), "sends although the socket has no room");
        let is_moving = self.is_sending() || (is_waiting && sendable);
        let is_due = !self.is_amid_receive;
        assert!(!self.is_alive() || !is_due || is_moving == sendable, "bytes owed, none in flight");
        assert!(!self.is_closing() || !self.has_operations());
        self.owed.count()
    }

    fn has_operations(&self) -> bool {
        self.is_receiving() || self.is_sending() || self.pace.is_watching() || self.pace.is_asking()
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.recv, Recv::Armed | Recv::Woken | Recv::Cancelling)
    }

    fn flush_greeting(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let (offset, len) = (u32::from(self.greeting_sent), u32::from(self.greeting_left));
        self.sending = len;
        let source = Source::Greeting { offset, len };
        emit(Action::Send { conn: id, socket: self.socket, source });
    }
}

// What an idle connection costs: its state, and its place in the table with the bookkeeping.
const _: () = assert!(size_of::<Connection>() <= 112);
const _: () = assert!(Slots::<Connection>::BYTES_EACH <= 128);
