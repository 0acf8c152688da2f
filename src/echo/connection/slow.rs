//! A connection whose socket has no room for what is owed.

use super::{AfterReceive, Connection, Recv, State};
use crate::echo::buffers::Buffers;
use crate::echo::limits::Credit;
use crate::echo::pace::{Answer, Question};
use crate::echo::{Action, ConnId, RecvEnd};

impl Connection {
    /// Whether its next receive is to wait for a writable socket.
    pub(super) fn looks_first(&self, credit: Credit) -> bool {
        self.pace.is_cautious() || (credit.looks_first && self.is_streaming)
    }

    /// Waits for a writable socket before the next receive, if nothing else is waited for. True if
    /// it does.
    pub(super) fn watch_before_receive(
        &mut self,
        id: ConnId,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let wanted = !self.pace.is_watching() && !self.is_sending() && self.owed.is_empty();
        if wanted {
            self.watch(id, emit);
        }
        wanted
    }

    fn watch(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        self.pace.watch();
        emit(Action::WatchWritable { conn: id, socket: self.socket });
    }

    /// The socket has no room for all that is owed: waits until it has, and receives nothing
    /// meanwhile. True if the peer was not known to be slow.
    pub(in crate::echo) fn stall(
        &mut self,
        id: ConnId,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) -> bool {
        let is_new = self.pace.stall();
        buffers.share(&mut self.owed, emit);
        if self.recv == Recv::Armed {
            self.recv = Recv::Cancelling;
            emit(Action::CancelRecv { conn: id, socket: self.socket });
        }
        self.watch(id, emit);
        is_new
    }

    /// The wait for a writable socket is over, `at_once` if it never had to be waited for.
    pub(in crate::echo) fn writable(&mut self, at_once: bool) {
        self.pace.writable(at_once);
    }

    /// The socket is writable: arms the receive if nothing is owed.
    pub(in crate::echo) fn receive_more(
        &mut self,
        id: ConnId,
        buffers: &mut Buffers,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        if self.recv == Recv::Idle && self.state == State::Open && self.owed.is_empty() {
            self.arm(id, 1, buffers, emit);
        }
    }

    /// Asks how many bytes are unsent.
    pub(in crate::echo) fn ask(
        &mut self,
        id: ConnId,
        question: Question,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        if self.pace.ask(question) {
            emit(Action::AskUnsent { conn: id, socket: self.socket });
        }
    }

    /// What it means that so many bytes are unsent.
    pub(in crate::echo) fn answer(&mut self, unsent: Option<u32>, min_drain: u32) -> Answer {
        self.pace.answer(unsent, min_drain)
    }

    /// The receive of a slow peer is over.
    pub(super) fn slow_receive_ended(
        &mut self,
        id: ConnId,
        end: RecvEnd,
        emit: &mut impl FnMut(Action<'_>),
    ) -> AfterReceive {
        let owes_nothing = self.owed.is_empty() && !self.pace.is_watching();
        if end == RecvEnd::NoBuffers && owes_nothing {
            self.recv = Recv::Parked;
            return AfterReceive::Park;
        }
        let watches = self.watch_before_receive(id, emit);
        if watches { AfterReceive::Watch } else { AfterReceive::Nothing }
    }
}
