//! What the samples of a connection show about its accept.

use super::diag::SocketSample;

/// The end of one connection's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The key under which the connection was added.
    pub key: u32,
    /// The instant it was added with, at which it was not accepted yet, monotonic nanoseconds.
    pub since_ns: u64,
    /// The two samples around the end of the wait.
    pub bracket: Bracket,
    /// How the wait ended.
    pub kind: ObservationKind,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// A process holds the connection.
    Accepted,
    /// It was accepted and closed between two samples: the accept lies in the bracket. The samples
    /// of a server that died or stopped listening are the same, but then the client is reset.
    EndedUnseen,
    /// No sample showed it waiting, and it was absent for [`VANISHED_AFTER_NS`]: it was reset, or
    /// the server's end is not in this network namespace.
    Vanished,
}

/// The two samples between which a wait ended, monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket {
    /// Lower bound: before the last sample that showed the connection waiting, or the instant it
    /// was added with.
    pub earliest_ns: u64,
    /// Upper bound: after the first sample that did not.
    pub latest_ns: u64,
}

impl Bracket {
    /// The estimate: the middle of the bracket.
    #[must_use]
    pub const fn middle_ns(self) -> u64 {
        self.earliest_ns.midpoint(self.latest_ns)
    }

    /// From the lower to the upper bound.
    #[must_use]
    pub const fn width_ns(self) -> u64 {
        self.latest_ns.saturating_sub(self.earliest_ns)
    }

    /// The largest error of the estimate in either direction.
    #[must_use]
    pub const fn half_width_ns(self) -> u64 {
        self.width_ns().div_ceil(2)
    }
}

/// How long a connection that no sample has shown must be absent before it counts as vanished,
/// nanoseconds. A server that answers with SYN cookies keeps no state of a connection until an ACK
/// arrives, and the client retransmits its data after 200 ms, 600 ms and so on.
pub const VANISHED_AFTER_NS: u64 = 1_000_000_000;

/// What the samples of a waiting connection have shown so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitHistory {
    /// The latest instant at which it was known to be not accepted.
    waiting_ns: u64,
    /// Whether a sample showed it in the accept queue.
    queued: bool,
    /// After the first of the consecutive samples that found it absent, up to now.
    absent_since_ns: Option<u64>,
    /// Before the last sample that found it absent. If a later sample finds it, it was not accepted
    /// at this instant.
    absent_ns: u64,
}

impl WaitHistory {
    /// Of a connection that was not accepted yet at `since_ns`.
    pub(super) fn new(since_ns: u64) -> Self {
        Self { waiting_ns: since_ns, queued: false, absent_since_ns: None, absent_ns: since_ns }
    }

    /// Of a connection that was in the accept queue at `since_ns`.
    pub(super) fn queued(since_ns: u64) -> Self {
        Self { queued: true, ..Self::new(since_ns) }
    }

    /// Adds a sample that was taken between `before_ns` and `after_ns`. Returns how the wait ended
    /// and between which instants; `None` while it goes on.
    pub(super) fn classify(
        &mut self,
        sample: SocketSample,
        before_ns: u64,
        after_ns: u64,
    ) -> Option<(ObservationKind, Bracket)> {
        let (kind, latest_ns) = match sample {
            SocketSample::Handshake | SocketSample::Queued => {
                self.waiting_ns = self.waiting_ns.max(before_ns);
                self.queued |= sample == SocketSample::Queued;
                self.absent_since_ns = None;
                return None;
            }
            SocketSample::Accepted { .. } => (ObservationKind::Accepted, after_ns),
            SocketSample::Ended => (ObservationKind::EndedUnseen, after_ns),
            SocketSample::Absent { .. } if self.queued => (ObservationKind::EndedUnseen, after_ns),
            SocketSample::Absent { .. } => {
                // A sample also misses a connection for the instant in which the kernel replaces
                // the handshake's entry in the table with the connection's.
                self.absent_ns = self.absent_ns.max(before_ns);
                let since_ns = *self.absent_since_ns.get_or_insert(after_ns);
                if after_ns - since_ns < VANISHED_AFTER_NS {
                    return None;
                }
                (ObservationKind::Vanished, since_ns)
            }
        };
        let absent_ns = if kind == ObservationKind::Vanished { 0 } else { self.absent_ns };
        let earliest_ns = self.waiting_ns.max(absent_ns);
        Some((kind, Bracket { earliest_ns, latest_ns }))
    }

    /// The bracket of an accept that is known to lie before `latest_ns`.
    pub(super) fn accepted_by(&self, latest_ns: u64) -> Bracket {
        let earliest_ns = self.waiting_ns.max(self.absent_ns).min(latest_ns);
        Bracket { earliest_ns, latest_ns }
    }
}
