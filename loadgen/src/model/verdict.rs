//! Whether the numbers can be trusted, and what they suggest.
//!
//! [`Reason`] and [`Advice`] are what is known when a run is judged. A result file keeps each as a
//! [`Finding`]: its code, its numbers, and the text that was shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcome::Phase;

/// The verdict on a run, as kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the numbers can be trusted: there are no reasons against it.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<Finding>,
    /// What was noticed, and what to do about it.
    pub advice: Vec<Finding>,
}

/// One reason or piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Short name for programs.
    pub code: String,
    /// What was found and what to do.
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

/// Why a run is INVALID: the generator or the measurement fell short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// Stopped by a signal: the report is partial.
    Interrupted,
    /// The embedded server ended during the run.
    ServerEnded,
    /// A generator thread gave up.
    GeneratorFailed,
    /// Connects were called later than planned.
    GeneratorLag {
        /// p99 of generator_lag.
        p99_ns: u64,
        /// What is tolerated.
        limit_ns: u64,
    },
    /// Fewer connects per second than planned.
    RateNotReached {
        /// Connects per second as planned.
        target: f64,
        /// Connects per second that were called.
        achieved: f64,
    },
    /// Arrivals that were not attempted.
    Shed {
        /// How many.
        count: u64,
    },
    /// Percentiles of so few samples mean nothing.
    TooFewSamples {
        /// Of which phase.
        phase: Phase,
        /// How many.
        count: u64,
        /// How many are needed.
        needed: u64,
    },
    /// Clocks that contradict each other.
    ClockErrors {
        /// How many.
        count: u64,
    },
    /// Samples larger than the histograms hold.
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

/// What was noticed in a run, and what can be done about it. It leaves the verdict alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Advice {
    /// ListenOverflows grew.
    AcceptQueueOverflowed {
        /// By how much.
        count: u64,
        /// Effective backlog, if it was seen.
        limit: Option<u32>,
        /// `net.core.somaxconn`.
        somaxconn: Option<u64>,
    },
    /// Samples at the instants of SYN retransmissions.
    RetransmissionSchedule {
        /// How many.
        count: u64,
    },
    /// The SYN queue was full.
    SynQueueFull {
        /// Cookies sent instead.
        cookies: u64,
        /// SYNs dropped.
        dropped: u64,
    },
    /// Conntrack lost packets.
    ConntrackLost {
        /// How many.
        count: u64,
    },
    /// Conntrack came near its limit.
    ConntrackNearlyFull {
        /// Most entries seen.
        peak: u64,
        /// Entries that fit.
        limit: u64,
    },
    /// Waits that had not ended.
    Unfinished {
        /// How many.
        count: u64,
    },
    /// Established, and nobody took them up.
    NeverAccepted {
        /// How many.
        count: u64,
    },
    /// Nobody listens there.
    Refused {
        /// How many.
        count: u64,
    },
    /// Local ports ran out.
    LocalPortExhausted {
        /// How many attempts.
        count: u64,
    },
    /// Descriptors, or memory for sockets, ran out.
    FdLimit {
        /// How many attempts.
        count: u64,
    },
    /// The server sends no stamp, or not one that can be read.
    StampInvalid {
        /// On how many connections.
        count: u64,
    },
    /// The kernel had no memory to answer samples of waiting connections.
    SamplesMissed {
        /// How many.
        count: u64,
    },
    /// Accepts were not seen at all.
    AcceptNotObserved,
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
