//! `loadgen merge`: several results as one.

use std::io;
use std::time::SystemTime;

use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use crate::analyse::slo::Objective;
use crate::analyse::verdict;
use crate::cli::merge::MergeArgs;
use crate::model::file::LoadError;
use crate::model::merge::{Merge, MergeError, Merged};
use crate::model::result::{Kind, RunResult};
use crate::model::verdict::{Reason, Slo, Verdict};
use crate::render::findings;
use crate::render::output::OutputError;

/// Why nothing was merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeCommandError {
    /// A file is no result. A usage error.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The results are no parts of one. A usage error.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The files cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

/// Reads one file after the other, so that memory does not grow with their number.
///
/// # Errors
/// [`MergeCommandError`], before anything is written.
pub fn execute(args: &MergeArgs) -> Result<ExitStatus, MergeCommandError> {
    let mut merge = Merge::default();
    for file in &args.files {
        merge.add(&file.display().to_string(), RunResult::load(file)?)?;
    }
    let mut result = judged(merge.finish()?);
    let destination = Destination::open(Some(&args.out), None)?;
    destination.print_report(&result)?;
    let told = result.problems.len();
    destination.finish(&mut result)?;
    // What the parts tell of is no failure of merging.
    if result.problems.len() > told {
        return Ok(ExitStatus::Failed);
    }
    Ok(ExitStatus::of(&RunResult { problems: Vec::new(), interrupted: false, ..result }))
}

/// Invalid if a part is, but for the number of samples: that is what merging is for.
fn judged(merged: Merged) -> RunResult {
    let Merged { result, reasons, notes } = merged;
    let new = envelope(Kind::Run, SystemTime::now());
    let mut result = RunResult { run_id: new.run_id, tool: new.tool, argv: new.argv, ..result };
    let judge = |slo: &Slo| match slo.expr.parse::<Objective>() {
        Ok(objective) => objective.judge(&result),
        Err(_) => slo.clone(),
    };
    result.slo = result.slo.iter().map(judge).collect();
    let few = |reason: &Reason| matches!(reason, Reason::TooFewSamples { .. });
    let still_few = verdict::reasons(&result).into_iter().filter(few);
    let of_parts = reasons.iter().filter(|reason| reason.finding.code != "too_few_samples");
    let advice = verdict::advice(&result);
    result.verdict = Verdict::of(
        of_parts
            .map(findings::part_reason)
            .chain(still_few.map(|few| findings::reason(&few)))
            .collect(),
        advice.iter().map(findings::advice).chain(notes.iter().map(findings::note)).collect(),
    );
    result
}
