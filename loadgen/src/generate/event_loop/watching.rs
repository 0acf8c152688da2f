//! Observing accepts by looking: which connections, when, and what is made of it.

use std::mem;

use uring_echo::clock::monotonic_ns;

use super::{EventLoop, GenerateError, SlotId, Transport};
use crate::generate::connection::Context;
use crate::observe::{Observation, ObservationKind};

impl<T: Transport> EventLoop<T> {
    /// Begins to look at the server's end of a connection. By the time the call of connect is over
    /// the client has its address; over loopback the server may have accepted already.
    pub(super) fn watch(&mut self, id: SlotId, since_ns: u64) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(local) = self.transport.local_addr(id) {
            watch.add(id.index(), self.target, local, since_ns);
        }
    }

    /// Looks at connections whose accept is not yet seen.
    pub(super) fn look(&mut self) -> Result<(), GenerateError> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let mut seen = mem::take(&mut self.seen);
        let note = &mut |observation| seen.push(observation);
        let looked = watch.pass(monotonic_ns(), SAMPLES_PER_TURN, note);
        self.recorder.samples_missed(watch.take_missed());
        let observed = seen.drain(..).try_for_each(|observation| self.observed(observation));
        self.seen = seen;
        looked.map_err(GenerateError::Diag)?;
        observed
    }

    fn observed(&mut self, observation: Observation) -> Result<(), GenerateError> {
        let Observation { key, since_ns, bracket, kind } = observation;
        let now_ns = bracket.latest_ns;
        let Some(id) = self.table.owner(key) else { return Ok(()) };
        let Some(entry) = self.table.get(id) else { return Ok(()) };
        let cx = &mut Context { script: &self.script, recorder: &mut self.recorder, now_ns };
        let step = match kind {
            ObservationKind::Accepted => entry.connection.seen_accepted(bracket, cx),
            ObservationKind::EndedUnseen => entry.connection.seen_ended(bracket, cx),
            // The server may not know of it yet (a dropped SYN, SYN cookies).
            ObservationKind::Vanished => {
                self.watch(id, since_ns);
                return Ok(());
            }
        };
        self.carry_out(step, id, now_ns)?;
        self.vacate_if_quiet(id);
        Ok(())
    }
}

/// The earliest instant at which a connection can have been in the accept queue, from when its
/// connect was called and when the call was over.
///
/// Only what the kernel shows in the server's own network namespace is watched, and there the whole
/// handshake runs inside the call: the last of its three segments queues the connection, and all
/// that comes after it is the way back. Of 9,000 accepts stamped by a spinning server on another
/// CPU, one in a hundred came before 95 % of the call were over and one in a thousand before 80 %.
/// A call that was interrupted says nothing: on the generator's CPU the server may have had all of
/// it but the beginning.
pub(super) fn queued_from_ns(called_ns: u64, returned_ns: u64, interrupted: bool) -> u64 {
    let call_ns = returned_ns - called_ns;
    if interrupted || call_ns > CALL_MAX_NS { called_ns } else { called_ns + call_ns / 5 * 4 }
}

/// Looks at waiting connections per turn, about a microsecond each.
pub(super) const SAMPLES_PER_TURN: u32 = 8;
/// A connect that takes longer was interrupted; it usually takes 10 to 40 microseconds.
const CALL_MAX_NS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_says_nothing_of_when_the_connection_was_queued() {
        assert_eq!(queued_from_ns(1_000, 21_000, false), 17_000);
        assert_eq!(queued_from_ns(1_000, 21_000, true), 1_000);
        assert_eq!(queued_from_ns(1_000, 101_001, false), 1_000);
    }
}
