//! `loadgen report`: the report of a result file, as the run printed it.

use std::io;

use crate::cli::report::ReportArgs;
use crate::model::file::LoadError;
use crate::model::result::RunResult;
use crate::render::{output, terminal};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file is no result. A usage error.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

/// Prints the report of each file.
///
/// # Errors
/// [`ReportError`], before anything is printed if a file is no result.
pub fn execute(args: &ReportArgs) -> Result<(), ReportError> {
    let results =
        args.files.iter().map(|file| RunResult::load(file)).collect::<Result<Vec<_>, _>>()?;
    let style = output::style_of_stdout();
    for (index, result) in results.iter().enumerate() {
        let between = if index == 0 { "" } else { "\n" };
        let report = terminal::report(result, style);
        let afterwards = terminal::afterwards(&result.problems, &[], style);
        output::print(&[between, &report, &afterwards].concat())?;
    }
    Ok(())
}
