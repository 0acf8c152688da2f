//! What the process exits with.

use crate::model::result::RunResult;

/// Exit status of a command that got as far as a result. Usage errors are 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// The numbers can be trusted, and everything else went well.
    Fine = 0,
    /// Something failed: during the run, after it, or the server under test.
    Failed = 1,
    /// The numbers cannot be trusted: see the verdict.
    Invalid = 4,
    /// Stopped by SIGINT, SIGTERM or SIGHUP, with a partial report.
    Interrupted = 130,
}

impl ExitStatus {
    /// Of a run that was reported: what failed comes before what was measured.
    pub fn of(result: &RunResult) -> Self {
        match (result.problems.is_empty(), result.interrupted, result.verdict.valid) {
            (false, ..) => Self::Failed,
            (true, true, _) => Self::Interrupted,
            (true, false, false) => Self::Invalid,
            (true, false, true) => Self::Fine,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_before_a_verdict() {
        let mut result = RunResult::default();
        assert_eq!(ExitStatus::of(&result), ExitStatus::Invalid);
        result.verdict.valid = true;
        assert_eq!(ExitStatus::of(&result), ExitStatus::Fine);
        result.interrupted = true;
        assert_eq!(ExitStatus::of(&result), ExitStatus::Interrupted);
        result.problems.push("the disk is full".into());
        assert_eq!(ExitStatus::of(&result), ExitStatus::Failed);
    }
}
