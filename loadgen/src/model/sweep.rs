//! The cells of a sweep side by side.

use serde::{Deserialize, Serialize};

/// What `loadgen sweep` measured. Each round has its own result file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Every combination, in the order in which they were asked for.
    pub cells: Vec<SweepCell>,
}

/// The rounds of one combination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepCell {
    /// The name of its folder.
    pub name: String,
    /// Each flag with its value.
    pub settings: Vec<(String, String)>,
    /// Rounds with a result.
    pub rounds: u64,
    /// Those of them whose verdict is VALID.
    pub valid: u64,
    /// Those of them that missed an objective.
    pub slo_missed: u64,
    /// Median of the connects per second that were reached.
    pub achieved_rate: Option<f64>,
    /// Share of all attempts that completed.
    pub completed_share: Option<f64>,
    /// p50 of accept_delay over the rounds, or of connect where no accept was observed.
    pub p50: Option<Spread>,
    /// p99 of the same; absent for rounds with too few samples.
    pub p99: Option<Spread>,
    /// Median of the cores that the server used, where its process is known.
    pub server_cores: Option<f64>,
    /// Why it has no more rounds.
    pub failed: Option<String>,
}

/// A value over the rounds of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the rounds are not above it.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}
