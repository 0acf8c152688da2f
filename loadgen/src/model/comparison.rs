//! Two sets of results side by side.

use serde::{Deserialize, Serialize};

/// What `loadgen compare` found. Ratios are of B to A.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Which durations were compared.
    pub phase: String,
    /// The first side.
    pub a: Side,
    /// The second side.
    pub b: Side,
    /// Whether each value of A was compared with that of the same round of B.
    pub paired: bool,
    /// Whether the rounds of A and of B took turns. Without turns, whatever changed on the machine
    /// between the two counts as a difference.
    pub interleaved: bool,
    /// One per quantile asked for.
    pub quantiles: Vec<QuantileComparison>,
}

/// One side of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The file or folder.
    pub path: String,
    /// Results that were compared.
    pub rounds: u64,
    /// Results without a partner in the other side, which were left out.
    pub left_out: u64,
    /// Results among the compared ones whose verdict is INVALID.
    pub invalid: u64,
}

/// One quantile of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantileComparison {
    /// `p99`.
    pub quantile: String,
    /// Median of A's rounds, nanoseconds.
    pub a_median_ns: f64,
    /// Median of B's rounds, nanoseconds.
    pub b_median_ns: f64,
    /// Estimate of B to A.
    pub ratio: Option<f64>,
    /// Bootstrap interval of the ratio; absent with too few rounds.
    pub interval: Option<RatioInterval>,
    /// A difference not above this cannot be seen by the observer.
    pub resolution_ns: f64,
    /// Samples in the round that has the fewest.
    pub samples_min: u64,
    /// What may be concluded.
    pub conclusion: Conclusion,
}

/// An interval of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioInterval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a comparison of two sides may conclude.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Conclusion {
    /// The interval excludes 1, and the difference is above the resolution.
    Different {
        /// How B lies to A.
        b_is: Direction,
    },
    /// Too small a difference, or none.
    NoDifferenceSeen {
        /// The smallest ratio above 1 that would have been called different, either way round.
        would_have_seen: f64,
    },
    /// Not enough rounds to tell a difference from chance.
    TooFewRounds {
        /// Rounds that were compared.
        have: u64,
        /// Rounds that are needed.
        need: u64,
    },
}

/// Which way two sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller values.
    Lower,
    /// Larger values.
    Higher,
}
