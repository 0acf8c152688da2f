//! The report of the torture suite.

use crate::model::result::RunResult;
use crate::model::torture::{CaseResult, CaseStatus};
use crate::render::units;

/// One case: status, name, time, what happened.
pub fn case_row(case: &CaseResult) -> String {
    let status = match case.status {
        CaseStatus::Passed => "PASS",
        CaseStatus::Failed => "FAIL",
        CaseStatus::Skipped => "skip",
    };
    let took = units::duration(units::ns_of_ms(case.took_ms));
    format!("{status}  {:<20} {took:>7}  {}", case.name, case.message)
}

pub(super) fn lines(result: &RunResult) -> Vec<String> {
    let Some(torture) = &result.torture else { return Vec::new() };
    let mut lines: Vec<String> = torture.cases.iter().map(case_row).collect();
    lines.push(String::new());
    lines.push(counts(result));
    lines
}

/// How many cases passed, failed and were skipped, as a line under the rows.
pub fn torture_counts(result: &RunResult) -> String {
    format!("\n{}\n", counts(result))
}

fn counts(result: &RunResult) -> String {
    let Some(torture) = &result.torture else { return String::new() };
    let interrupted = if result.interrupted { ", interrupted: the others did not run" } else { "" };
    format!(
        "{}: {} passed, {} failed, {} skipped{interrupted}",
        result.target.addr, torture.passed, torture.failed, torture.skipped
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::torture::Torture;

    fn case(status: CaseStatus) -> CaseResult {
        let (name, message) = ("burst".into(), "each echoed".into());
        CaseResult { name, status, message, took_ms: 12.0 }
    }

    #[test]
    fn a_row_tells_status_time_and_message() {
        let row = case_row(&case(CaseStatus::Failed));
        assert_eq!(row, "FAIL  burst                 12.0ms  each echoed");
    }

    #[test]
    fn a_report_ends_with_the_counts() {
        use CaseStatus::{Failed, Passed};
        let cases = [Passed, Failed, Passed].map(case).to_vec();
        let mut result =
            RunResult { torture: Some(Torture::of(true, cases)), ..RunResult::default() };
        result.target.addr = "127.0.0.1:7".into();
        let counts = "127.0.0.1:7: 2 passed, 1 failed, 0 skipped";
        assert_eq!(lines(&result).last().unwrap(), counts);
        result.interrupted = true;
        assert!(lines(&result).last().unwrap().contains("interrupted"));
    }
}
