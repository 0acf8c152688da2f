//! `result.json`: these structs are the schema.
//!
//! Durations are nanoseconds, in fields that end in `_ns` or under a `unit`. Fields may be added
//! within a version; none is renamed or removed. [`super::file`] loads and saves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::comparison::Comparison;
use super::environment::Environment;
use super::evidence::{CpuUse, Evidence};
use super::floor::Floor;
use super::histogram::Summary;
use super::hold::Hold;
use super::interval::Interval;
use super::load::Load;
use super::outcome::{ErrnoCount, Outcomes, Phase};
use super::server::{Server, Target};
use super::sweep::Sweep;
use super::torture::Torture;
use super::trace::Trace;
use super::verdict::{Slo, Verdict};
use super::watch::Watch;

/// Version of the schema.
pub const SCHEMA_VERSION: u32 = 2;

/// What one command measured; the content of a result file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The command that produced it.
    pub kind: Kind,
    /// Unique name of the run.
    pub run_id: String,
    /// The part of a divided run; absent for a whole one.
    pub shard: Option<Shard>,
    /// Merged from shards: from the first one's begin to the last one's, by their hosts' clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_skew_ns: Option<u64>,
    /// The runs of which it is the sum; absent for one that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    /// The program that wrote the file.
    pub tool: Tool,
    /// Begin of the load, RFC 3339 in UTC.
    pub started_at: String,
    /// The instants of the load; absent in results of version 1.
    pub times: Option<Times>,
    /// The command line.
    pub argv: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The machine on which it ran.
    pub environment: Environment,
    /// The address that it measured.
    pub target: Target,
    /// The server's description, as far as it is known.
    pub server: Server,
    /// The configured load; absent for a command with a fixed one.
    pub load: Option<Load>,
    /// How the generator carried it out.
    pub generator: Generator,
    /// Whether a signal stopped the run; all other fields are then partial.
    pub interrupted: bool,
    /// Failures during or after the measurement that are not part of it, one sentence each.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Attempts and how they ended; the outcomes add up to `attempted`.
    pub outcomes: Outcomes,
    /// Error numbers that caused outcomes.
    pub errnos: Vec<ErrnoCount>,
    /// Errors that `errnos` does not list because it was full.
    pub errnos_other: u64,
    /// Arrivals of the warm-up, which no other number includes.
    pub warmup_excluded: u64,
    /// Accepts observed before connect returned, which have no sample in `post_connect_wait`.
    pub accepted_before_return: u64,
    /// Accepts whose bracket contains the return of connect: whether they came before or after it
    /// is not known, so they count in neither `accepted_before_return` nor `post_connect_wait`.
    /// Absent in results of earlier releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_order_undetermined: Option<u64>,
    /// Attempts that the server may have accepted although no accept was observed: they ended
    /// first, and have no sample in `accept_delay`.
    /// Absent in results of earlier releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_observed: Option<u64>,
    /// Waits that had not ended; `accept_response` has them as "at least this long".
    pub censored: u64,
    /// Samples clipped to the histograms' maximum of 300 s.
    pub clipped: u64,
    /// Message bytes sent.
    pub bytes_sent: u64,
    /// Echo bytes received.
    pub bytes_received: u64,
    /// Histograms by name of the phase: `accept_delay` always, others if they have samples.
    pub histograms: BTreeMap<String, Summary>,
    /// The run by interval, warm-up included; at most [`super::interval::INTERVALS_MAX`].
    pub intervals: Vec<Interval>,
    /// What the kernel counted during the run.
    pub evidence: Evidence,
    /// Whether the measurements are valid.
    pub verdict: Verdict,
    /// Objectives and whether they were met.
    pub slo: Vec<Slo>,
    /// The condition of `--abort-on` that ended the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<Aborted>,
    /// Of `loadgen hold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Of `loadgen torture`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torture: Option<Torture>,
    /// Of `loadgen trace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Of `loadgen sweep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// What the instrument itself costs on this machine, where `loadgen calibrate` was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Of `loadgen watch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// Of `loadgen compare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// The JSON from which it was read, with the fields that this version does not know.
    #[serde(skip)]
    pub original: Option<Value>,
}

/// The command that produced a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `loadgen run`.
    Run,
    /// `loadgen hold`.
    Hold,
    /// `loadgen torture`.
    Torture,
    /// `loadgen watch`.
    Watch,
    /// `loadgen sweep`.
    Sweep,
    /// `loadgen compare`.
    Comparison,
    /// `loadgen trace`.
    Trace,
}

/// Part `index` (from 0) of a run that was divided into `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Number of the part, from 0.
    pub index: u32,
    /// Number of parts.
    pub count: u32,
}

/// A condition that ended a run early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aborted {
    /// As typed.
    pub expr: String,
    /// What was measured: nanoseconds, a count or a share.
    pub value: f64,
    /// When it was true, from the begin of the measured part.
    pub after_ns: u64,
}

/// The program that wrote a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit it was built from, if known.
    pub commit: Option<String>,
}

/// Instants of a load: nanoseconds since 1970 by the generator's realtime clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// First scheduled arrival.
    pub load_began: u64,
    /// End of the warm-up.
    pub measured_from: u64,
    /// End of the schedule; if that is not known before the run, the last connect.
    pub measured_to: u64,
    /// The last attempt had its outcome.
    pub load_ended: u64,
}

/// How the generator carried out the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Generator threads.
    pub threads: u16,
    /// What carried the connections: `uring` or `epoll`.
    pub transport: Option<String>,
    /// Features that the generator lacked, and why it was not `uring`; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// Scheduled connects per second of an open loop.
    pub target_rate: Option<f64>,
    /// Connects per second that were called.
    pub achieved_rate: Option<f64>,
    /// Latest intended instant of a connect that was called, from the begin of the load.
    #[serde(default)]
    pub last_intended_ns: u64,
    /// Latest instant of a connect call, from the begin of the load.
    #[serde(default)]
    pub last_called_ns: u64,
    /// CPU time of the whole process.
    pub cpu: Option<CpuUse>,
}

impl Default for RunResult {
    /// An empty run.
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            kind: Kind::Run,
            run_id: String::new(),
            shard: None,
            start_skew_ns: None,
            merged: Vec::new(),
            tool: Tool { name: "loadgen".into(), version: String::new(), commit: None },
            started_at: String::new(),
            times: None,
            argv: Vec::new(),
            labels: BTreeMap::new(),
            environment: Environment::default(),
            target: Target::default(),
            server: Server::default(),
            load: None,
            generator: Generator::default(),
            interrupted: false,
            problems: Vec::new(),
            outcomes: Outcomes::default(),
            errnos: Vec::new(),
            errnos_other: 0,
            warmup_excluded: 0,
            accepted_before_return: 0,
            accept_order_undetermined: None,
            not_observed: None,
            censored: 0,
            clipped: 0,
            bytes_sent: 0,
            bytes_received: 0,
            histograms: BTreeMap::new(),
            intervals: Vec::new(),
            evidence: Evidence::default(),
            verdict: Verdict::default(),
            slo: Vec::new(),
            aborted: None,
            hold: None,
            torture: None,
            trace: None,
            sweep: None,
            floor: None,
            watch: None,
            comparison: None,
            original: None,
        }
    }
}

impl RunResult {
    /// The samples of a phase; `None` where there are none.
    pub fn sampled(&self, phase: Phase) -> Option<&Summary> {
        self.histograms.get(phase.name()).filter(|summary| summary.count > 0)
    }

    /// By how much the durations of a phase may all be wrong, because they end by another clock
    /// than they begin; 0 where it is one clock.
    #[must_use]
    pub fn clock_bound_ns(&self, phase: &str) -> u64 {
        let bound_ns = self.target.clock_offset.map_or(0, |offset| offset.bound_ns);
        let crosses = Phase::ALL.iter().any(|it| it.name() == phase && it.ends_in_accept());
        if crosses { bound_ns } else { 0 }
    }

    /// The number of samples of a phase.
    pub fn samples(&self, phase: Phase) -> u64 {
        self.sampled(phase).map_or(0, |summary| summary.count)
    }
}
