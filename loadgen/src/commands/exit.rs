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
    /// An objective was missed, or `--abort-on` ended the run.
    SloMissed = 3,
    /// The numbers cannot be trusted: see the verdict.
    Invalid = 4,
    /// Stopped by SIGINT, SIGTERM or SIGHUP, with a partial report.
    Interrupted = 130,
}

impl ExitStatus {
    /// Of a run that was reported: what failed comes before what was measured, and an objective
    /// is missed by numbers that can be trusted only.
    pub fn of(result: &RunResult) -> Self {
        match result {
            _ if !result.problems.is_empty() => Self::Failed,
            _ if result.aborted.is_some() => Self::SloMissed,
            _ if result.interrupted => Self::Interrupted,
            _ if !result.verdict.valid => Self::Invalid,
            _ if result.slo.iter().any(|slo| !slo.met) => Self::SloMissed,
            _ => Self::Fine,
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
    use crate::model::result::Aborted;
    use crate::model::verdict::Slo;

    #[test]
    fn a_failure_is_told_before_a_verdict() {
        let mut result = RunResult::default();
        assert_eq!(ExitStatus::of(&result), ExitStatus::Invalid);
        result.verdict.valid = true;
        assert_eq!(ExitStatus::of(&result), ExitStatus::Fine);
        let missed = Slo { expr: "failed==0".into(), value: Some(1.0), met: false };
        result.slo = vec![Slo { met: true, ..missed.clone() }, missed];
        assert_eq!(ExitStatus::of(&result), ExitStatus::SloMissed);
        result.verdict.valid = false;
        assert_eq!(ExitStatus::of(&result), ExitStatus::Invalid);
        result.interrupted = true;
        assert_eq!(ExitStatus::of(&result), ExitStatus::Interrupted);
        result.aborted = Some(Aborted { expr: "failed>0".into(), value: 1.0, after_ns: 7 });
        assert_eq!(ExitStatus::of(&result), ExitStatus::SloMissed);
        result.problems.push("the disk is full".into());
        assert_eq!(ExitStatus::of(&result), ExitStatus::Failed);
    }
}
