//! Filled intervals out, empty ones in, without a wait or an allocation on the hot thread.

use std::sync::mpsc::{Receiver, SyncSender};

use super::attempt_recorder::AttemptRecorder;
use super::recorder::Recording;

/// Intervals beside the one being filled, per thread: the main thread may be that many seconds
/// late before an interval becomes longer than the others.
pub(super) const SPARES: usize = 4;

/// An interval and the thread that filled it.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) thread: u16,
    pub(super) interval: Recording,
}

/// One thread's end of the exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) thread: u16,
    pub(super) filled: SyncSender<Filled>,
    pub(super) spares: Receiver<Recording>,
    pub(super) next_ns: u64,
}

impl Exchange {
    /// The run starts at this instant.
    pub(super) fn begin(&mut self, start_ns: u64) {
        self.next_ns = start_ns + INTERVAL_NS;
    }

    /// When the present interval ends.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Exchanges the interval if it is over and there is another to go on with.
    pub(super) fn turn(&mut self, now_ns: u64, recorder: &mut AttemptRecorder) {
        if now_ns < self.next_ns {
            return;
        }
        if let Ok(empty) = self.spares.try_recv() {
            self.next_ns += INTERVAL_NS;
            self.hand_over(recorder.take_interval(now_ns, empty));
        }
    }

    /// Hands over what there is at the end of the run.
    pub(super) fn finish(&self, now_ns: u64, recorder: &mut AttemptRecorder) {
        let mut rest = recorder.take_interval(now_ns, Recording::new());
        rest.last = true;
        self.hand_over(rest);
    }

    /// There is room for every interval in the world, so this waits for nobody; it fails only when
    /// the main thread has given up, and then nobody wants the numbers.
    fn hand_over(&self, interval: Recording) {
        if let Err(unwanted) = self.filled.send(Filled { thread: self.thread, interval }) {
            drop(unwanted);
        }
    }
}

const INTERVAL_NS: u64 = 1_000_000_000;
