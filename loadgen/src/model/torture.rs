//! What came of the torture suite.

use serde::{Deserialize, Serialize};

/// The part of a result that only `loadgen torture` has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Torture {
    /// Smaller numbers and shorter pauses.
    pub quick: bool,
    /// Cases that passed.
    pub passed: usize,
    /// Cases in which the server did something else than echo.
    pub failed: usize,
    /// Cases that could not be tried here.
    pub skipped: usize,
    /// Case by case, in the order in which they ran.
    pub cases: Vec<CaseResult>,
}

/// How a case went.
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
    /// As it should be.
    Passed,
    /// The server did something else.
    Failed,
    /// Could not be tried here.
    Skipped,
}

impl Torture {
    /// Counts the cases.
    pub fn of(quick: bool, cases: Vec<CaseResult>) -> Self {
        let count = |status| cases.iter().filter(|case| case.status == status).count();
        let (passed, failed) = (count(CaseStatus::Passed), count(CaseStatus::Failed));
        let skipped = count(CaseStatus::Skipped);
        Self { quick, passed, failed, skipped, cases }
    }
}
