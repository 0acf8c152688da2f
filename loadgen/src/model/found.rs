//! The highest rate at which objectives hold, and the curve that leads to it.

use serde::{Deserialize, Serialize};

use super::result::Tool;

/// What `loadgen find` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The highest rate that holds the objectives, connections per second; absent if none does.
    pub found_rate: Option<f64>,
    /// What ends it: above this rate the server misses an objective, or the generator cannot offer
    /// the load (which includes that it was not asked to: `max_reached`). Absent if interrupted.
    pub limit: Option<Limit>,
    /// The highest rate allowed holds: the limit was not met.
    pub max_reached: bool,
    /// The objectives.
    pub slo: Vec<String>,
    /// One point per rate that was tried, ascending.
    pub curve: Vec<CurvePoint>,
    /// Whether a signal ended the search; what was found by then may be too low.
    pub interrupted: bool,
    /// The program that searched.
    pub tool: Tool,
    /// Its command line.
    pub argv: Vec<String>,
}

/// What ends a search upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The load was offered, and an objective was missed.
    Server,
    /// The load could not be offered as planned.
    Generator,
}

/// The runs at one rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Connections per second asked for.
    pub rate: f64,
    /// Connections per second reached, median of the runs.
    pub achieved_rate: Option<f64>,
    /// Runs at this rate.
    pub runs: u64,
    /// Those of them that held all objectives.
    pub held: u64,
    /// Whether the rate counts as one that holds.
    pub holds: bool,
    /// The median of what was measured, one per objective.
    pub values: Vec<Option<f64>>,
    /// Median over the runs of the p50 of accept_delay.
    pub p50_ns: Option<f64>,
    /// Median over the runs of the p99 of accept_delay.
    pub p99_ns: Option<f64>,
    /// What was short in most of the runs that did not hold.
    pub limit: Option<Limit>,
    /// Why, each reason once.
    pub reasons: Vec<String>,
}
