//! The result of the torture suite.

use serde::{Deserialize, Serialize};

/// The part of a result that only `loadgen torture` has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Torture {
    /// Whether the suite ran with smaller numbers and shorter pauses.
    pub quick: bool,
    /// Cases that passed.
    pub passed: usize,
    /// Cases in which the server did not behave as an echo server.
    pub failed: usize,
    /// Cases that could not run on this machine.
    pub skipped: usize,
    /// The cases in the order in which they ran.
    pub cases: Vec<CaseResult>,
}

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's name, as taken by `--case`.
    pub name: String,
    /// Passed, failed or skipped.
    pub status: CaseStatus,
    /// What happened.
    pub message: String,
    /// How long it took, milliseconds.
    pub took_ms: f64,
}

/// The outcome of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    /// The server behaved as expected.
    Passed,
    /// The server behaved differently.
    Failed,
    /// The case could not run on this machine.
    Skipped,
}

impl Torture {
    /// The result of `cases`, with the number of each status.
    pub fn of(quick: bool, cases: Vec<CaseResult>) -> Self {
        let count = |status| cases.iter().filter(|case| case.status == status).count();
        let (passed, failed) = (count(CaseStatus::Passed), count(CaseStatus::Failed));
        let skipped = count(CaseStatus::Skipped);
        Self { quick, passed, failed, skipped, cases }
    }
}
