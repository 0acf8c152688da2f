//! How an attempt can end, and which durations of it are measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How an attempt ended. Every attempt has exactly one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Accepted, as far as accepts are observed, and all messages echoed.
    Completed,
    /// The peer answered the SYN with RST (ECONNREFUSED).
    Refused,
    /// Not established within the timeout: the SYN or the SYN-ACK was dropped.
    ConnectTimeout,
    /// Established, then reset by the peer.
    ResetAfterConnect,
    /// Established, then closed by the peer in good order (FIN) before every message was echoed.
    ClosedEarly,
    /// Established, but no accept was observed within the timeout.
    NeverAccepted,
    /// The first bytes were not a stamp although one was required.
    StampInvalid,
    /// Echoed bytes differ from those sent.
    EchoMismatch,
    /// The echo did not come back within the timeout.
    EchoTimeout,
    /// No free port for this source and destination (EADDRNOTAVAIL).
    LocalPortExhausted,
    /// No descriptor (EMFILE, ENFILE) or no kernel memory (ENOBUFS, ENOMEM) for a socket of the
    /// generator: a limit of the generator's machine, not of the server.
    FdLimit,
    /// No route (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// Clocks contradict each other: accepted before connect was called, or after the answer.
    ClockError,
    /// Not attempted: `--max-in-flight` connections were open already.
    Shed,
    /// Not ended when the run ended.
    Unfinished,
    /// Planned, but the run's time was over before the generator came to it.
    NotBegun,
}

impl Outcome {
    /// All, in the order of the result file.
    pub const ALL: [Self; 16] = [
        Self::Completed,
        Self::Refused,
        Self::ConnectTimeout,
        Self::ResetAfterConnect,
        Self::ClosedEarly,
        Self::NeverAccepted,
        Self::StampInvalid,
        Self::EchoMismatch,
        Self::EchoTimeout,
        Self::LocalPortExhausted,
        Self::FdLimit,
        Self::Unreachable,
        Self::ClockError,
        Self::Shed,
        Self::Unfinished,
        Self::NotBegun,
    ];

    /// The name in results and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResetAfterConnect => "reset_after_connect",
            Self::ClosedEarly => "closed_early",
            Self::NeverAccepted => "never_accepted",
            Self::StampInvalid => "stamp_invalid",
            Self::EchoMismatch => "echo_mismatch",
            Self::EchoTimeout => "echo_timeout",
            Self::LocalPortExhausted => "local_port_exhausted",
            Self::FdLimit => "fd_limit",
            Self::Unreachable => "unreachable",
            Self::ClockError => "clock_error",
            Self::Shed => "shed",
            Self::Unfinished => "unfinished",
            Self::NotBegun => "not_begun",
        }
    }
}

/// A measured duration, with its own histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// connect called → accepted: the primary histogram.
    AcceptDelay,
    /// intended → accepted: the wait of a caller that arrives at the intended instant.
    AcceptResponse,
    /// connect called → established.
    Connect,
    /// established → accepted, where positive.
    PostConnectWait,
    /// intended → connect called: the generator's own lateness.
    GeneratorLag,
    /// connect called → first byte from the server.
    FirstByte,
    /// Send of a message → last byte of its echo.
    EchoRtt,
    /// Width of the bracket in which the accept lies: of a diag observation, or of a stamp by
    /// another machine's clock.
    DiagResolution,
}

impl Phase {
    /// All, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::AcceptDelay,
        Self::AcceptResponse,
        Self::Connect,
        Self::PostConnectWait,
        Self::GeneratorLag,
        Self::FirstByte,
        Self::EchoRtt,
        Self::DiagResolution,
    ];

    /// Whether it ends with the accept, so that it is not known better than that.
    #[must_use]
    pub fn ends_in_accept(self) -> bool {
        matches!(self, Self::AcceptDelay | Self::AcceptResponse | Self::PostConnectWait)
    }

    /// The name in results and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcceptDelay => "accept_delay",
            Self::AcceptResponse => "accept_response",
            Self::Connect => "connect",
            Self::PostConnectWait => "post_connect_wait",
            Self::GeneratorLag => "generator_lag",
            Self::FirstByte => "first_byte",
            Self::EchoRtt => "echo_rtt",
            Self::DiagResolution => "diag_resolution",
        }
    }
}

/// Attempts and how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Arrivals outside the warm-up.
    pub attempted: u64,
    /// Number of attempts by outcome, each a field of its own. Unknown names are kept.
    #[serde(flatten)]
    pub ended: BTreeMap<String, u64>,
}

impl Outcomes {
    /// Attempts with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.ended.get(outcome.name()).copied().unwrap_or(0)
    }

    /// Attempts with any outcome.
    pub fn finished(&self) -> u64 {
        self.ended.values().fold(0, |sum, count| u64::saturating_add(sum, *count))
    }

    /// The sum of both.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.attempted = sum.attempted.saturating_add(other.attempted);
        for (name, count) in &other.ended {
            let ended = sum.ended.entry(name.clone()).or_default();
            *ended = ended.saturating_add(*count);
        }
        sum
    }
}

/// How often an error number was the cause of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrnoCount {
    /// The outcome.
    pub outcome: String,
    /// The error number (errno(3)).
    pub errno: i32,
    /// Its text.
    pub message: String,
    /// Number of attempts.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_phases_are_listed_in_order_and_named_as_serialised() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, i);
            let serialised = serde_json::to_value(outcome).unwrap();
            assert_eq!(serialised, outcome.name());
        }
        for (i, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, i);
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }

    #[test]
    fn outcomes_add_up_by_name() {
        let one = Outcomes { attempted: 2, ended: [("shed".into(), 2)].into() };
        let two = Outcomes { attempted: 3, ended: [("shed".into(), 1), ("new".into(), 2)].into() };
        let sum = one.merged(&two);
        assert_eq!((sum.attempted, sum.finished(), sum.of(Outcome::Shed)), (5, 5, 3));
        assert_eq!(sum.of(Outcome::Completed), 0);
    }
}
