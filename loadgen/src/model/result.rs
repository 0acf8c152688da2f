//! `result.json`, version 1: these structs are the schema.
//!
//! Durations are nanoseconds, in fields that end in `_ns` or under a `unit`. Fields may be added
//! within a version; none is renamed or removed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde::{Deserialize, Serialize};

use crate::evidence::environment::Environment;
use crate::evidence::{CpuUse, Evidence};
use crate::generate::aggregation::{self, Row};
use crate::generate::recorder::{Counts, Outcome};
use crate::plan::config::{Arrivals, Close, Observe};
use crate::server::ServerInfo;

/// Version of the schema.
pub const SCHEMA_VERSION: u32 = 1;

/// One run, as kept and compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of loadgen.
    pub tool_version: String,
    /// Begin of the run, RFC 3339 in UTC.
    pub started_at: String,
    /// What was typed.
    pub argv: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Where it ran.
    pub environment: Environment,
    /// Whom it measured.
    pub target: Target,
    /// What is known of the server.
    pub server: Server,
    /// What was asked for.
    pub load: Load,
    /// What the generator made of it.
    pub generator: Generator,
    /// Stopped by a signal: everything below is partial.
    pub interrupted: bool,
    /// Attempts and how they ended; the outcomes add up to `attempted`.
    pub outcomes: Outcomes,
    /// Error numbers behind the outcomes.
    pub errnos: Vec<ErrnoCount>,
    /// Errors of kinds that found no room in `errnos`.
    pub errnos_other: u64,
    /// Arrivals of the warm-up: in no other number.
    pub warmup_excluded: u64,
    /// Accepts seen before connect returned: without a sample in `post_connect_wait`.
    pub accepted_before_return: u64,
    /// Waits that had not ended: in `accept_response` as "at least this long".
    pub censored: u64,
    /// Samples cut to the histograms' maximum of 300 s.
    pub clipped: u64,
    /// Message bytes sent.
    pub bytes_sent: u64,
    /// Echo bytes received.
    pub bytes_received: u64,
    /// By name of the phase: `accept_delay` always, others where there are samples.
    pub histograms: BTreeMap<String, Summary>,
    /// The run second by second, warm-up included.
    pub intervals: Vec<IntervalSummary>,
    /// What the kernel counted.
    pub evidence: Evidence,
    /// Whether the numbers can be trusted.
    pub verdict: VerdictText,
    /// Objectives and whether they were met.
    pub slo: Vec<serde_json::Value>,
}

/// Whom a run measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Address and port.
    pub addr: String,
    /// The server's clock domain in hexadecimal, if it stamps.
    pub clock_domain: Option<String>,
    /// How accepts were seen: never `auto`.
    pub observe: Observe,
}

/// What is known of the server; all of it for the embedded one, little for others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `uring`, `epoll` or `tokio-uring`.
    pub engine: Option<String>,
    /// `reuseport` or `shared`.
    pub accept: Option<String>,
    /// Worker threads.
    pub workers: Option<u64>,
    /// min(backlog, somaxconn).
    pub backlog_effective: Option<u64>,
    /// `auto`, `off` or microseconds.
    pub busy_poll: Option<String>,
    /// What the server had to do without.
    pub degraded: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// `rate`, `burst` or `closed`.
    pub shape: String,
    /// Connections per second of an open loop.
    pub rate: Option<f64>,
    /// Spacing of an open loop.
    pub arrivals: Option<Arrivals>,
    /// Connections per burst.
    pub burst: Option<u32>,
    /// Distance of bursts.
    pub every_ns: Option<u64>,
    /// Connections kept going in a closed loop.
    pub concurrency: Option<u32>,
    /// Length, without warm-up, if that ended the run.
    pub duration_ns: Option<u64>,
    /// Number of connections, without warm-up, if that ended the run.
    pub connections: Option<u64>,
    /// Load before the measurement.
    pub warmup_ns: u64,
    /// Echo round trips per connection.
    pub messages: u32,
    /// Bytes per message.
    pub size_bytes: u32,
    /// How connections were ended.
    pub close: Close,
    /// Client networks; empty left it to the kernel.
    pub sources: Vec<String>,
    /// Cap on open connections.
    pub max_in_flight: u32,
    /// Given up after this long.
    pub timeout_ns: u64,
    /// Seed of everything drawn.
    pub seed: u64,
}

/// What the generator made of the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads, one ring each.
    pub threads: u16,
    /// Planned connects per second of an open loop.
    pub target_rate: Option<f64>,
    /// Connects per second that were called.
    pub achieved_rate: Option<f64>,
    /// CPU time of the whole process.
    pub cpu: Option<CpuUse>,
}

/// Attempts and how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Arrivals outside the warm-up.
    pub attempted: u64,
    /// How many of them ended in which way; all ways are there, each a field of its own.
    #[serde(flatten)]
    pub ended: BTreeMap<Outcome, u64>,
}

/// An error number and how often it was behind an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrnoCount {
    /// How the attempts ended.
    pub outcome: Outcome,
    /// The number (errno(3)).
    pub errno: i32,
    /// What it says.
    pub message: String,
    /// How often.
    pub count: u64,
}

/// A histogram: numbers to read, and all of it to merge. Percentiles are absent without samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Always `ns`.
    pub unit: String,
    /// Samples.
    pub count: u64,
    /// Smallest sample.
    pub min: Option<u64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// 99.9th percentile.
    pub p99_9: Option<u64>,
    /// 99.99th percentile.
    pub p99_99: Option<u64>,
    /// Largest sample.
    pub max: Option<u64>,
    /// The histogram: HdrHistogram V2, DEFLATE, base64.
    pub hdr_v2_deflate_base64: String,
}

/// One interval, over all generator threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalSummary {
    /// Begin, from the start of the run.
    pub start_ns: u64,
    /// Length.
    pub length_ns: u64,
    /// Attempts begun in it.
    pub attempted: u64,
    /// Attempts that ended well in it.
    pub completed: u64,
    /// Attempts that ended otherwise in it.
    pub failed: u64,
    /// Warm-up arrivals in it.
    pub warmup_excluded: u64,
    /// Median of accept_delay.
    pub p50_ns: Option<u64>,
    /// 99th percentile of accept_delay.
    pub p99_ns: Option<u64>,
    /// Largest accept_delay.
    pub max_ns: Option<u64>,
}

/// The verdict in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictText {
    /// Whether the numbers can be trusted.
    pub valid: bool,
    /// Why not: a short name, a colon, and what to do.
    pub reasons: Vec<String>,
    /// What was noticed, in the same form.
    pub advice: Vec<String>,
}

impl From<&ServerInfo> for Server {
    /// What the server did not mention is unknown.
    fn from(facts: &ServerInfo) -> Self {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let number = |n: u64| Some(n).filter(|&n| n > 0);
        Self {
            engine: text(&facts.engine),
            accept: text(&facts.accept),
            workers: number(facts.workers),
            backlog_effective: number(facts.backlog_effective),
            busy_poll: text(&facts.busy_poll),
            degraded: facts.degraded.clone(),
        }
    }
}

impl Outcomes {
    /// The named form of the counters.
    pub fn of(counts: &Counts) -> Self {
        let ended = Outcome::ALL.map(|outcome| (outcome, counts.outcome(outcome))).into();
        Self { attempted: counts.attempted, ended }
    }
}

impl Summary {
    /// Summarises a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let sampled = !histogram.is_empty();
        let quantile = |q| aggregation::quantile(histogram, q);
        Self {
            unit: "ns".into(),
            count: histogram.len(),
            min: sampled.then(|| histogram.min()),
            mean: sampled.then(|| histogram.mean()),
            stdev: sampled.then(|| histogram.stdev()),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            p99_99: quantile(0.9999),
            max: sampled.then(|| histogram.max()),
            hdr_v2_deflate_base64: aggregation::encode(histogram),
        }
    }

    /// The histogram itself; `None` when the text is damaged.
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.hdr_v2_deflate_base64).ok()?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
    }
}

impl IntervalSummary {
    pub(crate) fn of(row: &Row) -> Self {
        let completed = row.counts.outcome(Outcome::Completed);
        Self {
            start_ns: row.start_ns,
            length_ns: row.end_ns.saturating_sub(row.start_ns),
            attempted: row.counts.attempted,
            completed,
            failed: row.counts.finished() - completed,
            warmup_excluded: row.counts.warmup_excluded,
            p50_ns: row.p50_ns,
            p99_ns: row.p99_ns,
            max_ns: row.max_ns,
        }
    }
}
