//! A against B, each a number of results: by round where both have the same rounds, else as two
//! samples.

use std::collections::BTreeSet;

use super::statistics::{self, Summary, compare_paired, compare_unpaired};
use crate::model::comparison::{
    Comparison, Conclusion, Direction, QuantileComparison, RatioInterval, Side,
};
use crate::model::folder::Found;
use crate::model::histogram::{HistogramError, Summary as HistogramSummary};
use crate::model::outcome::Phase;
use crate::model::quantile::Quantile;
use crate::model::result::{Kind, RunResult};

/// Why results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// A result has nothing to compare.
    #[error("{place} has no samples of {phase}: it has {sampled}", phase = .phase.name())]
    NoSamples {
        /// Which result.
        place: String,
        /// What was asked for.
        phase: Phase,
        /// The phases that it has.
        sampled: String,
    },
    /// The samples of two results are not of the same connections.
    #[error(
        "{place} has {waits}, {other} has {other_waits}: their percentiles are not of the same; \
         compare runs with runs, and watches with watches of the same mode"
    )]
    OtherWaits {
        /// A result.
        place: String,
        /// What its samples are.
        waits: &'static str,
        /// Another result.
        other: String,
        /// What that one's samples are.
        other_waits: &'static str,
    },
    /// A histogram cannot be read.
    #[error("{place}: {cause}")]
    Histogram {
        /// Which result.
        place: String,
        /// What is wrong with it.
        cause: HistogramError,
    },
}

/// Histograms keep three digits: what differs by less is the same to them.
const HISTOGRAM_WIDTH: f64 = 1e-3;

/// One side: where it was found and its results in the order of measurement.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// The file or folder.
    pub path: &'a str,
    /// Its results.
    pub found: &'a [Found],
}

/// Compares two sets of results at some quantiles of a phase.
///
/// # Errors
/// [`CompareError`] if one of the results has no such samples.
pub fn compare(
    a: Results<'_>,
    b: Results<'_>,
    phase: Phase,
    quantiles: &[Quantile],
) -> Result<Comparison, CompareError> {
    let common = common_rounds(a.found, b.found);
    let paired = !common.is_empty();
    let first = read_side(a, phase, quantiles, &common)?;
    let second = read_side(b, phase, quantiles, &common)?;
    check_waits(first.iter().chain(&second))?;
    let interleaved = interleaved(&first, &second);
    let compare =
        |(at, quantile): (usize, &Quantile)| one_quantile(*quantile, at, &first, &second, paired);
    Ok(Comparison {
        phase: phase.name().into(),
        a: side(a, &first),
        b: side(b, &second),
        paired,
        interleaved,
        quantiles: quantiles.iter().enumerate().map(compare).collect(),
    })
}

/// A watch sees the connections of others, of which one mode leaves out the shortest waits; a run
/// times its own, from the call of connect.
fn check_waits<'a>(mut rounds: impl Iterator<Item = &'a Round<'a>>) -> Result<(), CompareError> {
    let Some(first) = rounds.next() else { return Ok(()) };
    let waits = waits(first.result);
    let Some(other) = rounds.find(|round| self::waits(round.result) != waits) else {
        return Ok(());
    };
    Err(CompareError::OtherWaits {
        place: first.path.clone(),
        waits,
        other: other.path.clone(),
        other_waits: self::waits(other.result),
    })
}

fn waits(result: &RunResult) -> &'static str {
    let sampled = result.watch.as_ref().is_some_and(|watch| watch.mode == "sampled");
    match result.kind {
        Kind::Watch if sampled => "the waits that a watch happened to sample",
        Kind::Watch => "all waits that a watch saw",
        _ => "the delays of its own connections",
    }
}

/// The rounds that both sides have. A file that was named itself is a round of nothing, unless it
/// stands against another such file.
fn common_rounds<'a>(a: &'a [Found], b: &'a [Found]) -> BTreeSet<&'a str> {
    let places = |found: &'a [Found]| -> BTreeSet<&'a str> {
        found.iter().map(|found| found.place.as_str()).collect()
    };
    places(a).intersection(&places(b)).copied().collect()
}

/// What is needed of one result.
struct Round<'a> {
    place: &'a str,
    /// The place with the path that it was found under.
    path: String,
    result: &'a RunResult,
    samples: u64,
    /// In the order of the quantiles asked for.
    values: Vec<f64>,
    /// Width of the observer's brackets at the same quantiles.
    resolutions: Vec<f64>,
}

fn read_side<'a>(
    side: Results<'a>,
    phase: Phase,
    quantiles: &[Quantile],
    common: &BTreeSet<&str>,
) -> Result<Vec<Round<'a>>, CompareError> {
    let used = |found: &&Found| common.is_empty() || common.contains(found.place.as_str());
    side.found.iter().filter(used).map(|found| Round::read(side, found, phase, quantiles)).collect()
}

impl<'a> Round<'a> {
    fn read(
        side: Results<'a>,
        found: &'a Found,
        phase: Phase,
        quantiles: &[Quantile],
    ) -> Result<Self, CompareError> {
        let result = &found.result;
        let path = [side.path, &found.place].join("/").trim_end_matches('/').to_owned();
        let place = || path.clone();
        let summary = result.sampled(phase).ok_or_else(|| CompareError::NoSamples {
            place: place(),
            phase,
            sampled: sampled_phases(result),
        })?;
        let at = |summary: &HistogramSummary| {
            let histogram = summary.histogram();
            let histogram =
                histogram.map_err(|cause| CompareError::Histogram { place: place(), cause })?;
            let at = |quantile: &Quantile| approx(histogram.value_at_quantile(quantile.share()));
            Ok(quantiles.iter().map(at).collect::<Vec<f64>>())
        };
        let seen_within = result.sampled(Phase::DiagResolution).filter(|_| phase.ends_in_accept());
        let everywhere = result.watch.as_ref().map_or(0.0, |watch| approx(watch.resolution_ns));
        let resolutions = seen_within.map_or_else(|| Ok(vec![everywhere; quantiles.len()]), at)?;
        let (samples, values) = (summary.count, at(summary)?);
        Ok(Self { place: &found.place, path, result, samples, values, resolutions })
    }
}

fn sampled_phases(result: &RunResult) -> String {
    let sampled = result.histograms.iter().filter(|(_, summary)| summary.count > 0);
    let names: Vec<&str> = sampled.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "none at all".into() } else { names.join(", ") }
}

fn side(results: Results<'_>, used: &[Round<'_>]) -> Side {
    let invalid = used.iter().filter(|round| !round.result.verdict.valid).count();
    Side {
        path: results.path.into(),
        rounds: used.len() as u64,
        left_out: (results.found.len() - used.len()) as u64,
        invalid: invalid as u64,
    }
}

/// Whether neither side was over before the other began.
fn interleaved(first: &[Round<'_>], second: &[Round<'_>]) -> bool {
    let began = |round: Option<&Round<'_>>| round.map(|round| round.result.started_at.clone());
    began(first.first()) <= began(second.last()) && began(second.first()) <= began(first.last())
}

fn one_quantile(
    quantile: Quantile,
    at: usize,
    first: &[Round<'_>],
    second: &[Round<'_>],
    paired: bool,
) -> QuantileComparison {
    let values = |side: &[Round<'_>]| side.iter().map(|round| round.values[at]).collect::<Vec<_>>();
    let median = |values: &[f64]| Summary::of(values.iter().copied()).map_or(0.0, |it| it.median);
    let widths = |side: &[Round<'_>]| {
        median(&side.iter().map(|round| round.resolutions[at]).collect::<Vec<_>>())
    };
    let (a_median_ns, b_median_ns) = (median(&values(first)), median(&values(second)));
    let width = HISTOGRAM_WIDTH * a_median_ns.max(b_median_ns);
    let resolution_ns = widths(first).max(widths(second)).max(width);
    let compared = if paired {
        compare_paired(&pairs(at, first, second), resolution_ns)
    } else {
        compare_unpaired(&values(second), &values(first), resolution_ns)
    };
    let interval = compared.interval.map(|it| RatioInterval { low: it.low, high: it.high });
    QuantileComparison {
        quantile: quantile.to_string(),
        a_median_ns,
        b_median_ns,
        ratio: compared.ratio,
        interval,
        resolution_ns,
        samples_min: first.iter().chain(second).map(|round| round.samples).min().unwrap_or(0),
        conclusion: conclusion(compared.verdict),
    }
}

/// B and A of each round, in the order in which A was measured.
fn pairs(at: usize, first: &[Round<'_>], second: &[Round<'_>]) -> Vec<(f64, f64)> {
    let value = |round: &Round<'_>| round.values[at];
    let pair = |a: &Round<'_>| {
        let b = second.iter().find(|b| b.place == a.place)?;
        Some((value(b), value(a)))
    };
    first.iter().filter_map(pair).collect()
}

fn conclusion(verdict: statistics::Verdict) -> Conclusion {
    match verdict {
        statistics::Verdict::Different(statistics::Direction::Lower) => {
            Conclusion::Different { b_is: Direction::Lower }
        }
        statistics::Verdict::Different(statistics::Direction::Higher) => {
            Conclusion::Different { b_is: Direction::Higher }
        }
        statistics::Verdict::NoDifferenceSeen { would_have_seen } => {
            Conclusion::NoDifferenceSeen { would_have_seen }
        }
        statistics::Verdict::TooFewRounds { have, need } => {
            Conclusion::TooFewRounds { have: have as u64, need: need as u64 }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are kept")]
fn approx(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
