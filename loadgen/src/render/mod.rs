//! What a run leaves: a report as text and JSON, and logs for other HdrHistogram tools.

pub mod hgrm;
pub mod hlog;
pub mod plot;
pub mod progress;
pub mod terminal;
pub mod units;

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::analyse::verdict::{Pace, Verdict};
use crate::evidence::environment::Environment;
use crate::evidence::{Evidence, RetransmitSchedule};
use crate::generate::aggregation::Aggregate;
use crate::generate::recorder::{Interval, Phase};
use crate::plan::config::{JsonTarget, RunConfig, Shape, Stop};
use crate::plan::schedule::nanos;

pub use crate::model::result::{Report, Server, Target};
pub use terminal::Style;

use crate::model::result::{
    ErrnoCount, Generator, IntervalSummary, Load, Outcomes, SCHEMA_VERSION, Summary, VerdictText,
};

/// Everything known when a run is over.
#[derive(Debug)]
pub struct Finished<'a> {
    /// What was asked for.
    pub config: &'a RunConfig,
    /// What was typed.
    pub argv: Vec<String>,
    /// Begin of the run.
    pub started_at: SystemTime,
    /// Whom it measured, and how.
    pub target: Target,
    /// What is known of the server.
    pub server: Server,
    /// Echo round trips per connection, as decided.
    pub messages: u32,
    /// Where it ran.
    pub environment: Environment,
    /// What was recorded; [`Aggregate::finish`] has been called.
    pub totals: &'a Aggregate,
    /// What the kernel counted.
    pub evidence: Evidence,
    /// Stopped by a signal.
    pub interrupted: bool,
}

/// Exit status of a run that got as far as a report. Runtime errors are 1, usage errors 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// The numbers can be trusted.
    Fine = 0,
    /// They cannot: see the verdict.
    Invalid = 4,
    /// Stopped by SIGINT or SIGTERM, with a partial report.
    Interrupted = 130,
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

impl Report {
    /// Summarises and judges a run.
    pub fn of(run: Finished<'_>) -> Self {
        let (config, all) = (run.config, run.totals.all());
        let mut evidence = run.evidence;
        let counts = all.counts();
        evidence.retransmit_schedule = Some(RetransmitSchedule::count(all));
        evidence.samples_missed = counts.samples_missed;
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            started_at: humantime::format_rfc3339_millis(run.started_at).to_string(),
            argv: run.argv,
            labels: config.labels.clone(),
            environment: run.environment,
            target: run.target,
            server: run.server,
            load: Load::of(config, run.messages),
            generator: generator(config, all, &evidence),
            interrupted: run.interrupted,
            outcomes: Outcomes::of(counts),
            errnos: errnos(all),
            errnos_other: all.errnos().others(),
            warmup_excluded: counts.warmup_excluded,
            accepted_before_return: counts.accepted_before_return,
            censored: counts.censored,
            clipped: counts.clipped,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            histograms: histograms(all),
            intervals: run.totals.rows().iter().map(IntervalSummary::of).collect(),
            verdict: VerdictText::of(&Verdict::of(config, all, &evidence, run.interrupted)),
            evidence,
            slo: Vec::new(),
        }
    }

    /// What the process exits with.
    pub fn exit_status(&self) -> ExitStatus {
        match (self.interrupted, self.verdict.valid) {
            (true, _) => ExitStatus::Interrupted,
            (false, false) => ExitStatus::Invalid,
            (false, true) => ExitStatus::Fine,
        }
    }
}

/// Writes what `--out` and `--json` ask for, and the report to stdout.
///
/// # Errors
/// When a file cannot be written; a reader of stdout that went away is none.
pub fn deliver(
    report: &Report,
    config: &RunConfig,
    totals: &Aggregate,
    started_at: SystemTime,
) -> io::Result<()> {
    let json = serde_json::to_string_pretty(report)? + "\n";
    let mut files = match &config.out {
        Some(folder) => write_folder(folder, &json, totals, started_at)?,
        None => Vec::new(),
    };
    if let Some(JsonTarget::File(path)) = &config.json {
        write_atomically(path, &json)?;
        files.push(path.clone());
    }
    if config.json_alone() {
        return print(&json);
    }
    let color =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    print(&terminal::render(report, &files, Style { color }))
}

/// Writes the result files into a folder, which is made if needed. An older result is replaced,
/// `result.json` last: where it stands, the others belong to it.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_folder(
    folder: &Path,
    json: &str,
    totals: &Aggregate,
    started_at: SystemTime,
) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    let log = hlog::render(started_at, totals.rows());
    let percentiles = hgrm::render(totals.all().histogram(Phase::AcceptDelay));
    let contents =
        [("run.hlog", log.as_str()), ("accept_delay.hgrm", &percentiles), ("result.json", json)];
    let mut files = Vec::new();
    for (name, text) in contents {
        let path = folder.join(name);
        write_atomically(&path, text)?;
        files.push(path);
    }
    Ok(files)
}

/// Writes beside the target and renames: a reader sees the old file or the whole new one. What is
/// there and is no regular file (a pipe, a terminal) is written to instead.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let special = fs::metadata(path).is_ok_and(|there| !there.is_file());
    let written = if special { fs::write(path, text) } else { replace(path, text) };
    written.map_err(|error| named(path, &error))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = File::create(&part)?;
    let renamed = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, path));
    renamed.or_else(|error| fs::remove_file(&part).and(Err(error)))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

impl Load {
    fn of(config: &RunConfig, messages: u32) -> Self {
        let mut load = Self {
            shape: config.shape.name().into(),
            rate: None,
            arrivals: None,
            burst: None,
            every_ns: None,
            concurrency: None,
            duration_ns: None,
            connections: None,
            warmup_ns: nanos(config.warmup),
            messages,
            size_bytes: config.size,
            close: config.close,
            sources: config.sources.iter().map(ToString::to_string).collect(),
            max_in_flight: config.max_in_flight,
            timeout_ns: nanos(config.timeout),
            seed: config.seed,
        };
        match config.shape {
            Shape::Rate { per_second, arrivals } => {
                (load.rate, load.arrivals) = (Some(per_second), Some(arrivals));
            }
            Shape::Burst { count, every } => {
                (load.burst, load.every_ns) = (Some(count.get()), every.map(nanos));
            }
            Shape::Closed { concurrency } => load.concurrency = Some(concurrency.get()),
        }
        match config.stop {
            Stop::After(duration) => load.duration_ns = Some(nanos(duration)),
            Stop::Connections(n) => load.connections = Some(n),
        }
        load
    }
}

impl VerdictText {
    fn of(verdict: &Verdict) -> Self {
        let reasons = verdict.reasons.iter().map(|r| format!("{}: {r}", r.code()));
        let advice = verdict.advice.iter().map(|a| format!("{}: {a}", a.code()));
        Self { valid: verdict.valid(), reasons: reasons.collect(), advice: advice.collect() }
    }
}

fn generator(config: &RunConfig, all: &Interval, evidence: &Evidence) -> Generator {
    let pace = Pace::of(config, all);
    Generator {
        threads: config.threads,
        target_rate: pace.map(|p| p.target),
        achieved_rate: pace.map(|p| p.achieved),
        cpu: evidence.generator_cpu,
    }
}

fn errnos(all: &Interval) -> Vec<ErrnoCount> {
    let kinds = all.errnos().iter().map(|(outcome, errno, count)| ErrnoCount {
        outcome,
        errno,
        message: io::Error::from_raw_os_error(errno).to_string(),
        count,
    });
    kinds.collect()
}

fn histograms(all: &Interval) -> std::collections::BTreeMap<String, Summary> {
    let shown =
        Phase::ALL.into_iter().filter(|&p| p == Phase::AcceptDelay || !all.histogram(p).is_empty());
    shown.map(|p| (p.name().into(), Summary::of(all.histogram(p)))).collect()
}
