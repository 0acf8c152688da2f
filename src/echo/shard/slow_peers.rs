//! Peers that read slowly: they wait for room in their socket, and only as a last resort are they
//! cut off.
//!
//! Two things end such a connection. One that takes less than `min_drain` bytes per write timeout,
//! while it is to take some, does not read. And when the pool is empty and somebody waits for a
//! buffer, the connection that has held some for longest goes, unless its socket had room a moment
//! ago.

use super::Shard;
use crate::echo::connection::ListKind;
use crate::echo::pace::{Answer, Question};
use crate::echo::{Action, ConnId, Nanos};

/// A socket that turns out to be writable this soon after it was watched was so all the time.
const AT_ONCE: Nanos = Nanos(1_000_000);

impl Shard {
    /// The socket did not take all that was sent.
    pub(super) fn stall(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else { return };
        self.stats.stalls += 1;
        if conn.stall(id, &mut self.buffers, emit) && self.limits.write_timeout.is_some() {
            conn.ask(id, Question::Mark, emit);
        }
        self.write.begin(&mut self.slots, id.index(), self.now);
        self.holding.update(&mut self.slots, id.index());
    }

    pub(super) fn writable(&mut self, id: ConnId, emit: &mut impl FnMut(Action<'_>)) {
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return;
        };
        if !conn.pace().is_watching() {
            return self.slip(id, emit);
        }
        let since = conn.timer_start(ListKind::Write);
        conn.writable(self.now <= since.plus(AT_ONCE));
        if !conn.is_alive() {
            return self.close_if_done(id, emit);
        }
        conn.receive_more(id, &mut self.buffers, emit);
        self.write.remove(&mut self.slots, id.index());
        self.flush(id, emit);
        self.close_if_done(id, emit);
    }

    /// The write timeout of connection `index` has passed: has its peer taken anything?
    pub(super) fn question(&mut self, index: u32, emit: &mut impl FnMut(Action<'_>)) {
        let id = self.slots.id_at(index).expect("a connection with a timer is open");
        self.slots.at_mut(index).ask(id, Question::Verdict, emit);
    }

    pub(super) fn unsent(
        &mut self,
        id: ConnId,
        bytes: Option<u32>,
        emit: &mut impl FnMut(Action<'_>),
    ) {
        let Some(conn) = self.slots.get_mut(id) else {
            self.stats.stale += 1;
            return;
        };
        if !conn.pace().is_asking() {
            return self.slip(id, emit);
        }
        let answer = conn.answer(bytes, self.limits.min_drain);
        if !conn.is_alive() || !conn.pace().is_watching() {
            return self.close_if_done(id, emit);
        }
        match answer {
            Answer::Noted => {}
            Answer::Progress => self.write.begin(&mut self.slots, id.index(), self.now),
            Answer::Stuck => {
                self.stats.write_timeouts += 1;
                self.abort(id, emit);
            }
        }
    }

    /// The last resort: while the pool is empty and somebody waits for a buffer.
    pub(super) fn relieve(&mut self, emit: &mut impl FnMut(Action<'_>)) {
        while let Some((index, _)) = self.starving().filter(|(_, at)| *at <= self.now) {
            self.stats.evicted += 1;
            self.abort_at(index, emit);
            self.parked.wake(&mut self.slots, &mut self.buffers, emit);
        }
    }

    /// When [`Self::relieve`] has something to do.
    pub(super) fn relief_deadline(&self) -> Option<Nanos> {
        self.starving().map(|(_, at)| at)
    }

    /// Who is to go for whoever waits for a buffer, and when.
    #[inline]
    fn starving(&self) -> Option<(u32, Nanos)> {
        if self.parked.is_empty() || self.buffers.free() > 0 {
            return None;
        }
        self.holding.longest(&self.slots)
    }

    /// Panics unless the lists agree with the connection about what it waits for.
    pub(super) fn assert_waits_are_known(&self, index: u32) {
        let conn = self.slots.at(index);
        let waits = conn.is_alive() && conn.pace().is_watching();
        assert!(waits || !self.write.contains(&self.slots, index), "timed, but waits for nothing");
        let is_known = self.holding.contains(&self.slots, index);
        assert!(!(waits && conn.holds()) || is_known, "holds buffers, and nobody knows");
    }
}
