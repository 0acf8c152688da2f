//! Whether a run's measurements are valid, and advice on what was noticed.
//!
//! Judging a run gives [`Reason`]s and [`Advice`]. The result file contains each as a [`Finding`]:
//! its code, its numbers, and the text that was shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::evidence::Unaccepted;
use super::outcome::{Outcome, Phase};

/// The verdict on a run, as the result file contains it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the measurements are valid: there are no reasons against it.
    pub valid: bool,
    /// Why the measurements are not valid.
    pub reasons: Vec<Finding>,
    /// What was noticed, and the remedy.
    pub advice: Vec<Finding>,
}

/// One reason or piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Short name, for programs.
    pub code: String,
    /// What was found, and the remedy.
    pub text: String,
    /// The numbers in the text, each a field of its own.
    #[serde(flatten)]
    pub numbers: BTreeMap<String, Value>,
}

/// An objective and whether it was met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// As typed.
    pub expr: String,
    /// What was measured: nanoseconds, a count or a share.
    pub value: Option<f64>,
    /// Whether it was met.
    pub met: bool,
}

/// Why a run is INVALID: a defect of the generator or of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// The run was stopped by a signal; the report is partial.
    Interrupted,
    /// The embedded server ended during the run.
    ServerEnded,
    /// A generator thread failed.
    GeneratorFailed,
    /// Connects were called later than scheduled.
    GeneratorLag {
        /// p99 of generator_lag.
        p99_ns: u64,
        /// The largest p99 of a valid run.
        limit_ns: u64,
    },
    /// Fewer connects per second than scheduled.
    RateNotReached {
        /// Scheduled connects per second.
        target: f64,
        /// Connects per second that were called.
        achieved: f64,
    },
    /// Arrivals that were not attempted.
    Shed {
        /// How many.
        count: u64,
    },
    /// Planned arrivals that the generator had not come to when the run's time was over.
    NotBegun {
        /// How many.
        count: u64,
    },
    /// Accepts that were not observed and have no sample.
    NotObserved {
        /// Attempts that the server may have accepted, without a sample.
        count: u64,
        /// Accepts with a sample.
        observed: u64,
    },
    /// The server waited for a CPU that the generator kept, for a large part of the accept delay.
    ServerWaitedForCpu {
        /// Run delay of the server's threads per accept, as far as the generator is its cause.
        per_accept_ns: u64,
        /// Mean of accept_delay.
        accept_delay_ns: u64,
    },
    /// No attempt completed: nothing that was measured describes a connection that worked.
    NothingCompleted {
        /// Attempts.
        attempted: u64,
        /// The most frequent outcome.
        outcome: Outcome,
        /// Attempts with this outcome.
        count: u64,
    },
    /// Too few samples for the percentiles shown.
    TooFewSamples {
        /// Of which phase.
        phase: Phase,
        /// How many.
        count: u64,
        /// How many are needed.
        needed: u64,
        /// Attempts; those without a sample ended before the phase did.
        attempted: u64,
    },
    /// Connections whose instants contradict each other.
    ClockErrors {
        /// How many.
        count: u64,
    },
    /// Samples above the histograms' maximum.
    Clipped {
        /// How many.
        count: u64,
    },
    /// Attempts without an outcome: a defect of loadgen.
    Unaccounted {
        /// How many.
        count: u64,
    },
}

/// What was noticed in a run and has a remedy. It does not change the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Advice {
    /// ListenOverflows grew.
    AcceptQueueOverflowed {
        /// By how much.
        count: u64,
        /// Effective backlog, if it was observed.
        limit: Option<u32>,
        /// `net.core.somaxconn`.
        somaxconn: Option<u64>,
    },
    /// An accept queue was close to its limit, and nothing was dropped.
    AcceptQueueNearlyFull {
        /// Its longest.
        depth: u32,
        /// Effective backlog.
        limit: u32,
        /// `net.core.somaxconn`.
        somaxconn: Option<u64>,
    },
    /// The oldest connection in the queue of a listener waits and waits.
    ListenerStuck {
        /// Its socket.
        inode: u32,
        /// Connections that wait there.
        depth: u32,
        /// How long the oldest has.
        longest_wait_ns: u64,
        /// Listeners of the address.
        listeners: usize,
    },
    /// Samples of a queue were taken late.
    LateTicks {
        /// Share of all.
        share: f64,
    },
    /// Waits were told by the length of the queue alone.
    DepthAlone,
    /// Waits were told by dumps of the queue.
    WaitsSampled {
        /// Shorter waits are not among them.
        resolution_ns: u64,
    },
    /// The kernel dropped packets at this server's listeners, but no accept queue was full.
    ListenerDropped {
        /// How many.
        count: u64,
    },
    /// The client was established while the server's end stayed in the handshake, and nothing was
    /// dropped: the server is told of a connection only when data is there.
    Deferred {
        /// On how many connections.
        count: u64,
    },
    /// SYN cookies are sent for every connection (`net.ipv4.tcp_syncookies` is 2).
    SynCookiesAlways {
        /// SYN cookies sent.
        cookies: u64,
    },
    /// A CPU quota stopped the generator.
    GeneratorThrottled {
        /// In how many periods.
        periods: u64,
        /// For how long.
        stopped_ns: u64,
    },
    /// A CPU quota stopped the server.
    ServerThrottled {
        /// In how many periods.
        periods: u64,
        /// For how long.
        stopped_ns: u64,
    },
    /// The process that accepts is a proxy in front of the server.
    ProxyProcess {
        /// Its name.
        proxy: &'static str,
        /// Its process id.
        pid: u32,
    },
    /// Connections that the peer reset.
    Reset {
        /// How many.
        count: u64,
    },
    /// Connections that the kernel reset because the accept queue was full when their last ACK came
    /// (`net.ipv4.tcp_abort_on_overflow` is 1).
    ResetOnOverflow {
        /// How many.
        count: u64,
    },
    /// Samples at the instants of SYN retransmissions.
    RetransmissionSchedule {
        /// How many.
        count: u64,
    },
    /// The SYN queue was full.
    SynQueueFull {
        /// SYN cookies sent.
        cookies: u64,
        /// SYNs dropped.
        dropped: u64,
    },
    /// Connection tracking dropped packets.
    ConntrackLost {
        /// How many.
        count: u64,
    },
    /// The connection tracking table was nearly full.
    ConntrackNearlyFull {
        /// The most entries in any sample.
        peak: u64,
        /// The maximum number of entries.
        limit: u64,
    },
    /// Waits that had not ended.
    Unfinished {
        /// How many.
        count: u64,
    },
    /// Connections that were established but not accepted.
    NeverAccepted {
        /// How many.
        count: u64,
        /// What the kernel showed of them.
        shown: Option<Unaccepted>,
    },
    /// Connections that were refused: nothing listens on the address.
    Refused {
        /// How many.
        count: u64,
    },
    /// No local port was free.
    LocalPortExhausted {
        /// How many attempts.
        count: u64,
    },
    /// No descriptor, or no memory for a socket, was free.
    FdLimit {
        /// How many attempts.
        count: u64,
    },
    /// The server sends no stamp, or one that cannot be decoded.
    StampInvalid {
        /// On how many connections.
        count: u64,
    },
    /// The kernel had no memory to answer samples of waiting connections.
    SamplesMissed {
        /// How many.
        count: u64,
    },
    /// Accepts were not observed.
    AcceptNotObserved,
    /// The load is a closed loop, which waits for the server.
    ClosedLoop {
        /// Connections kept open.
        concurrency: u32,
    },
    /// A burst took a while to be called.
    BurstEntry {
        /// Connections per burst.
        burst: u32,
        /// From the instant of the burst to its last connect call.
        entered_ns: u64,
    },
}

impl Verdict {
    /// VALID unless there are reasons against it.
    pub fn of(reasons: Vec<Finding>, advice: Vec<Finding>) -> Self {
        Self { valid: reasons.is_empty(), reasons, advice }
    }
}

impl Finding {
    /// A [`Reason`] or [`Advice`] with its text.
    pub fn of(found: &impl Serialize, text: String) -> Self {
        let fields = serde_json::to_value(found).expect("plain numbers and names");
        let Value::Object(fields) = fields else { unreachable!("the enums are tagged") };
        let mut numbers: BTreeMap<String, Value> = fields.into_iter().collect();
        let code = numbers.remove("code").and_then(|code| Some(code.as_str()?.to_owned()));
        Self { code: code.expect("the tag is the code"), text, numbers }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_carries_code_text_and_numbers() {
        let reason = Reason::GeneratorLag { p99_ns: 2_000_000, limit_ns: 1_000_000 };
        let finding = Finding::of(&reason, "late".into());
        let expected = json!({
            "code": "generator_lag", "text": "late", "p99_ns": 2_000_000, "limit_ns": 1_000_000
        });
        assert_eq!(serde_json::to_value(&finding).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Finding>(expected).unwrap(), finding);
        let plain = Finding::of(&Advice::AcceptNotObserved, String::new());
        assert_eq!((plain.code.as_str(), plain.numbers.len()), ("accept_not_observed", 0));
    }
}
