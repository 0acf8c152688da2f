//! What looks at a connection tell about its accept.

use super::diag::SocketSample;

/// The end of one connection's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The key it was added under.
    pub key: u32,
    /// As it was added: it had not been accepted at this instant, monotonic nanoseconds.
    pub since_ns: u64,
    /// The two looks around its end.
    pub bracket: Bracket,
    /// How it ended.
    pub kind: ObservationKind,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// A process holds the connection.
    Accepted,
    /// It was accepted and closed between two looks: the accept lies in the bracket. A server that
    /// died or stopped listening looks the same, but then the client is reset.
    EndedUnseen,
    /// It was never seen waiting and stayed away for [`VANISHED_AFTER_NS`]: reset, or not here.
    Vanished,
}

/// Between which two looks something happened, monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket {
    /// Before the last look that showed the connection waiting, or the instant it was added with.
    pub last_without_ns: u64,
    /// After the first look that did not.
    pub first_with_ns: u64,
}

impl Bracket {
    /// The best guess: its middle.
    #[must_use]
    pub const fn middle_ns(self) -> u64 {
        self.last_without_ns.midpoint(self.first_with_ns)
    }

    /// How far the guess may be off either way.
    #[must_use]
    pub const fn half_width_ns(self) -> u64 {
        self.first_with_ns.saturating_sub(self.last_without_ns).div_ceil(2)
    }
}

/// How long a connection that was never seen has to be absent before it counts as vanished,
/// nanoseconds. A server that answers with SYN cookies knows nothing of a connection until an ACK
/// gets through, and the client repeats its data after 200, 600 ms and so on.
pub const VANISHED_AFTER_NS: u64 = 1_000_000_000;

/// What the looks at a connection have shown so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// It had not been accepted at this instant.
    without_ns: u64,
    queued: bool,
    /// Since when every look found nothing.
    absent_since_ns: Option<u64>,
    /// Before the last look that found nothing. If something comes later, there was no accept yet.
    absent_ns: u64,
}

impl Seen {
    /// Of a connection that was not accepted yet at `since_ns`.
    pub(super) fn new(since_ns: u64) -> Self {
        Self { without_ns: since_ns, queued: false, absent_since_ns: None, absent_ns: since_ns }
    }

    /// What follows from a look that began after `before_ns` and was over at `after_ns`.
    pub(super) fn judge(
        &mut self,
        look: SocketSample,
        before_ns: u64,
        after_ns: u64,
    ) -> Option<(ObservationKind, Bracket)> {
        let (kind, first_with_ns) = match look {
            SocketSample::Handshake | SocketSample::Queued => {
                self.without_ns = self.without_ns.max(before_ns);
                self.queued |= look == SocketSample::Queued;
                self.absent_since_ns = None;
                return None;
            }
            SocketSample::Accepted { .. } => (ObservationKind::Accepted, after_ns),
            SocketSample::Ended => (ObservationKind::EndedUnseen, after_ns),
            SocketSample::Absent { .. } if self.queued => (ObservationKind::EndedUnseen, after_ns),
            SocketSample::Absent { .. } => {
                // A look can also miss a connection for an instant, while the kernel exchanges the
                // entry of the handshake for that of the connection.
                self.absent_ns = self.absent_ns.max(before_ns);
                let since_ns = *self.absent_since_ns.get_or_insert(after_ns);
                if after_ns - since_ns < VANISHED_AFTER_NS {
                    return None;
                }
                (ObservationKind::Vanished, since_ns)
            }
        };
        let absent_ns = if kind == ObservationKind::Vanished { 0 } else { self.absent_ns };
        let last_without_ns = self.without_ns.max(absent_ns);
        Some((kind, Bracket { last_without_ns, first_with_ns }))
    }
}
