//! Several results as one: the parts of a divided run, or rounds of the same measurement.
//!
//! Histograms, intervals, outcomes and every other count are added exactly. What describes the
//! parts is kept where they agree. Parts are taken one after the other and only sums are kept, so
//! that their number does not matter.

mod agreement;
mod evidence;
mod sums;
mod timeline;

use std::collections::BTreeMap;

use self::agreement::common;
use self::evidence::EvidenceSum;
use self::sums::{Rates, Span, add_counts, errnos_added};
use self::timeline::Timeline;
use super::histogram::{HistogramError, Summary, new_histogram};
use super::result::{Kind, RunResult, Shard, Times};
use super::server::Resolution;
use super::verdict::Finding;

/// Why results cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There are none.
    #[error("there is no result to merge")]
    Nothing,
    /// Not the result of a run.
    #[error("{part}: only results of `loadgen run` can be merged, and this is one of {kind:?}")]
    Kind {
        /// Which part.
        part: String,
        /// What it is.
        kind: Kind,
    },
    /// The same run twice.
    #[error("{part} and {other} are the same run ({run_id}): each may be counted once")]
    Repeated {
        /// Which part.
        part: String,
        /// The part with the same run.
        other: String,
        /// Its name.
        run_id: String,
    },
    /// The same shard twice.
    #[error("{part} and {other} are both shard {index} of {count} (counted from 0)")]
    ShardRepeated {
        /// Which part.
        part: String,
        /// The part with the same shard.
        other: String,
        /// The shard.
        index: u32,
        /// Shards of the run.
        count: u32,
    },
    /// A shard that no part is.
    #[error("shard {missing} of {count} (counted from 0) is missing: add its result")]
    ShardMissing {
        /// The shards, in words.
        missing: String,
        /// Shards of the run.
        count: u32,
    },
    /// Shards of differently divided runs, or a shard and a whole run.
    #[error("{part} is {is}, and {other} is {other_is}: they are not parts of one run")]
    ShardsDiffer {
        /// Which part.
        part: String,
        /// What it is.
        is: String,
        /// A part that is something else.
        other: String,
        /// What that is.
        other_is: String,
    },
    /// A histogram cannot be read.
    #[error("{part}: {phase}: {cause}")]
    Histogram {
        /// Which part.
        part: String,
        /// Of which phase.
        phase: String,
        /// What is wrong with it.
        cause: HistogramError,
    },
}

/// What the merged result does not say by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Parts that watched the same server, or the same kernel, at the same time: their evidence was
    /// counted once.
    EvidenceShared {
        /// How many.
        parts: u64,
    },
    /// Shards that did not begin together.
    StartsApart {
        /// From the first to the last, by the clocks of their hosts.
        skew_ns: u64,
    },
    /// Fields in which the parts differ, and which the result therefore lacks.
    PartsDiffer {
        /// Their paths, such as `server.engine`.
        fields: Vec<String>,
    },
}

/// A reason against the validity of some of the parts.
#[derive(Debug, Clone, PartialEq)]
pub struct PartReason {
    /// The first part that has it.
    pub part: String,
    /// How many more have it.
    pub others: u64,
    /// The reason.
    pub finding: Finding,
}

/// The sum of what was added.
#[derive(Debug)]
pub struct Merged {
    /// The result: identity and verdict are the caller's to fill in, and its objectives, those of
    /// any part, to be judged.
    pub result: RunResult,
    /// Reasons of parts, each code once.
    pub reasons: Vec<PartReason>,
    /// What was noticed.
    pub notes: Vec<Note>,
}

/// Results being added up.
#[derive(Debug, Default)]
pub struct Merge {
    sum: Option<RunResult>,
    /// Run and the part it came from.
    runs: BTreeMap<String, String>,
    shards: BTreeMap<u32, String>,
    /// Of the first part.
    first: Option<(String, Option<Shard>)>,
    histograms: BTreeMap<String, hdrhistogram::Histogram<u64>>,
    timeline: Timeline,
    evidence: EvidenceSum,
    rates: Rates,
    /// When the first and the last part began.
    began: Option<(u64, u64)>,
    reasons: Vec<PartReason>,
    differing: Vec<String>,
}

impl Merge {
    /// Adds a result, called `part` in errors.
    ///
    /// # Errors
    /// [`MergeError`]; the merge cannot be used any more then.
    pub fn add(&mut self, part: &str, result: RunResult) -> Result<(), MergeError> {
        self.check(part, &result)?;
        let histogram = |phase: &str, cause| {
            let (part, phase) = (part.to_owned(), phase.to_owned());
            MergeError::Histogram { part, phase, cause }
        };
        for (phase, summary) in &result.histograms {
            let sum = self.histograms.entry(phase.clone()).or_insert_with(new_histogram);
            let added = summary.counts().and_then(|counts| add_counts(sum, &counts));
            added.map_err(|cause| histogram(phase, cause))?;
        }
        let span = Span::of(&result);
        for interval in &result.intervals {
            let added = self.timeline.add(span.begin, interval);
            added.map_err(|(phase, cause)| histogram(&phase, cause))?;
        }
        self.evidence.add(&result, span);
        self.rates.add(&result, span);
        let (first, last) = self.began.unwrap_or((span.begin, span.begin));
        self.began = Some((first.min(span.begin), last.max(span.begin)));
        self.reasons_of(part, &result);
        self.describe(part, result);
        Ok(())
    }

    fn check(&mut self, part: &str, result: &RunResult) -> Result<(), MergeError> {
        let part = part.to_owned();
        if result.kind != Kind::Run {
            return Err(MergeError::Kind { part, kind: result.kind });
        }
        let own = std::iter::once(&result.run_id).filter(|_| result.merged.is_empty());
        for run_id in own.chain(&result.merged) {
            if let Some(other) = self.runs.insert(run_id.clone(), part.clone()) {
                let run_id = run_id.clone();
                return Err(MergeError::Repeated { part, other, run_id });
            }
        }
        let (other, shard) = self.first.get_or_insert_with(|| (part.clone(), result.shard));
        if shard.map(|shard| shard.count) != result.shard.map(|shard| shard.count) {
            let (is, other_is) = (shard_words(result.shard), shard_words(*shard));
            return Err(MergeError::ShardsDiffer { part, is, other: other.clone(), other_is });
        }
        let Some(Shard { index, count }) = result.shard else { return Ok(()) };
        match self.shards.insert(index, part.clone()) {
            Some(other) => Err(MergeError::ShardRepeated { part, other, index, count }),
            None => Ok(()),
        }
    }

    fn reasons_of(&mut self, part: &str, result: &RunResult) {
        for finding in &result.verdict.reasons {
            match self.reasons.iter_mut().find(|known| known.finding.code == finding.code) {
                Some(known) => known.others += 1,
                None => self.reasons.push(PartReason {
                    part: part.to_owned(),
                    others: 0,
                    finding: finding.clone(),
                }),
            }
        }
    }

    /// Adds the counts, and keeps of the descriptions what both have.
    fn describe(&mut self, part: &str, result: RunResult) {
        let told = |problem: &String| format!("{part}: {problem}");
        let problems: Vec<String> = result.problems.iter().map(told).collect();
        let Some(mut sum) = self.sum.take() else {
            let (original, histograms, intervals) = (None, BTreeMap::new(), Vec::new());
            let aborted = None;
            let part = RunResult { problems, original, histograms, intervals, aborted, ..result };
            self.sum = Some(part);
            return;
        };
        sum.problems.extend(problems);
        sums::counts(&mut sum, &result);
        let known: Vec<String> = sum.slo.iter().map(|slo| slo.expr.clone()).collect();
        sum.slo.extend(result.slo.iter().filter(|slo| !known.contains(&slo.expr)).cloned());
        sum.errnos = errnos_added(&sum.errnos, &result.errnos);
        sum.labels.retain(|name, value| result.labels.get(name) == Some(value));
        let differing = &mut self.differing;
        sum.environment = common("environment", &sum.environment, &result.environment, differing);
        sum.server = common("server", &sum.server, &result.server, differing);
        sum.target = sums::targets(&sum.target, &result.target, differing);
        let loads = if sum.shard.is_some() { sums::divided_load } else { sums::loads };
        sum.load = loads(sum.load.as_ref(), result.load.as_ref(), differing);
        sums::generators(&mut sum.generator, &result.generator, differing);
        self.sum = Some(sum);
    }

    /// The merged result.
    ///
    /// # Errors
    /// [`MergeError::Nothing`], [`MergeError::ShardMissing`].
    pub fn finish(self) -> Result<Merged, MergeError> {
        let mut result = self.sum.ok_or(MergeError::Nothing)?;
        let mut notes = Vec::new();
        if let Some(Shard { count, .. }) = result.shard.take() {
            all_there(&self.shards, count)?;
            let skew_ns = self.began.map_or(0, |(first, last)| last - first);
            result.start_skew_ns = Some(skew_ns);
            notes.extend((skew_ns > SKEW_MAX_NS).then_some(Note::StartsApart { skew_ns }));
        }
        let summaries = self.histograms.iter();
        result.histograms = summaries.map(|(name, sum)| (name.clone(), Summary::of(sum))).collect();
        let resolution = result.histograms.get("diag_resolution");
        let resolution = resolution
            .and_then(|widths| Some(Resolution { p50_ns: widths.p50?, p99_ns: widths.p99? }));
        result.target.resolution = resolution.or(result.target.resolution);
        let (begin, intervals) = self.timeline.finish(self.rates.begin());
        result.intervals = intervals;
        result.times = Some(Times { load_began: begin, ..self.rates.times() });
        self.rates.write_into(&mut result);
        let (evidence, shared) = self.evidence.finish(begin);
        result.evidence = evidence;
        result.merged = self.runs.into_keys().collect();
        notes.extend((shared > 0).then_some(Note::EvidenceShared { parts: shared }));
        let mut fields = self.differing;
        fields.sort();
        fields.dedup();
        notes.extend((!fields.is_empty()).then_some(Note::PartsDiffer { fields }));
        Ok(Merged { result, reasons: self.reasons, notes })
    }
}

/// Starts this far apart are worth a word: the load of the first moments was not the planned one.
const SKEW_MAX_NS: u64 = 10_000_000;

fn shard_words(shard: Option<Shard>) -> String {
    match shard {
        Some(Shard { index, count }) => format!("shard {index} of {count}"),
        None => "a whole run".into(),
    }
}

fn all_there(shards: &BTreeMap<u32, String>, count: u32) -> Result<(), MergeError> {
    const NAMED: usize = 8;
    if shards.len() as u64 >= u64::from(count) {
        return Ok(());
    }
    let missing = (0..count).filter(|index| !shards.contains_key(index));
    let named: Vec<String> = missing.take(NAMED).map(|index| index.to_string()).collect();
    let further = u64::from(count) - shards.len() as u64 - named.len() as u64;
    let more = if further > 0 { format!(" and {further} more") } else { String::new() };
    Err(MergeError::ShardMissing { missing: named.join(", ") + &more, count })
}

#[cfg(test)]
mod tests;
