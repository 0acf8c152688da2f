//! Why a run is INVALID, in words.

use std::fmt;

use super::{Pace, SAMPLES_MIN};
use crate::generate::recorder::{HIGHEST_NS, Phase};
use crate::render::units;

/// Why a run is INVALID.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Stopped by a signal: the report is partial.
    Interrupted,
    /// Connects were called later than planned.
    GeneratorLag {
        /// p99 of generator_lag.
        p99_ns: u64,
        /// What is tolerated.
        limit_ns: u64,
    },
    /// Fewer connects per second than planned.
    RateNotReached(Pace),
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

impl Reason {
    /// Short name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::GeneratorLag { .. } => "generator_lag",
            Self::RateNotReached(_) => "rate_not_reached",
            Self::Shed { .. } => "shed",
            Self::TooFewSamples { .. } => "too_few_samples",
            Self::ClockErrors { .. } => "clock_errors",
            Self::Clipped { .. } => "clipped",
            Self::Unaccounted { .. } => "unaccounted",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Interrupted => f.write_str("the run was interrupted: the report is partial"),
            Self::GeneratorLag { p99_ns, limit_ns } => write!(
                f,
                "the generator was late by {} at p99 (limit {}): lower the rate, add --threads, \
                 or give it CPUs of its own with --cpus",
                units::duration(p99_ns),
                units::duration(limit_ns)
            ),
            Self::RateNotReached(pace) => write!(
                f,
                "{} connects per second were reached of {} planned: lower the rate or add \
                 --threads",
                units::rate(pace.achieved),
                units::rate(pace.target)
            ),
            Self::Shed { count } => write!(
                f,
                "{} over --max-in-flight were not attempted: the server does not keep up at this \
                 rate, or raise --max-in-flight",
                units::plural(count, "arrival")
            ),
            Self::TooFewSamples { phase, count } => write!(
                f,
                "{} of {} are too few for percentiles: run longer (at least {SAMPLES_MIN})",
                units::plural(count, "sample"),
                phase.name()
            ),
            Self::ClockErrors { count } => write!(
                f,
                "{} between client and server: the two do not share a clock, use --observe diag \
                 or run both on one host",
                units::plural(count, "clock contradiction")
            ),
            Self::Clipped { count } => write!(
                f,
                "{} exceeded {} and were cut to it: shorten --timeout",
                units::plural(count, "sample"),
                units::duration(HIGHEST_NS)
            ),
            Self::Unaccounted { count } => write!(
                f,
                "{} ended without an outcome: this is a defect of loadgen, please report it",
                units::plural(count, "attempt")
            ),
        }
    }
}
