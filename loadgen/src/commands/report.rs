//! `loadgen report`: the reports of result files, as the runs printed them, and as a page.

use std::io;
use std::path::{Path, PathBuf};

use super::names::distinct;
use crate::analyse::overview::against_the_first;
use crate::cli::report::ReportArgs;
use crate::model::file::LoadError;
use crate::model::result::RunResult;
use crate::render::html::{self, Named};
use crate::render::output::{self, Output, OutputError};
use crate::render::{picture, terminal};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file is no result. A usage error.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The page cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

/// Prints the report of each file, and writes the page where one is wanted.
///
/// # Errors
/// [`ReportError`], before anything is printed if a file is no result or the page cannot be
/// written.
pub fn execute(args: &ReportArgs) -> Result<(), ReportError> {
    let results =
        args.files.iter().map(|file| RunResult::load(file)).collect::<Result<Vec<_>, _>>()?;
    let page = args.html.as_deref().map(Output::open).transpose()?;
    let growth = args.growth.as_deref().map(Output::open).transpose()?;
    let style = output::style_of_stdout();
    for (index, result) in results.iter().enumerate() {
        let between = if index == 0 { "" } else { "\n" };
        let report = terminal::report(result, style);
        let afterwards = terminal::afterwards(&result.problems, &[], style);
        output::print(&[between, &report, &afterwards].concat())?;
    }
    let page = page.map(|page| page.write(&overlaid(&args.files, &results))).transpose()?;
    let growth = growth.map(|file| file.write(&picture::growth(&results))).transpose()?;
    let written: Vec<PathBuf> = page.into_iter().chain(growth).collect();
    if written.is_empty() {
        return Ok(());
    }
    Ok(output::print(&terminal::afterwards(&[], &written, style))?)
}

fn overlaid(files: &[PathBuf], results: &[RunResult]) -> String {
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let names = distinct(&paths);
    let named = || names.iter().zip(results);
    let pairs: Vec<_> = named().map(|(name, result)| (name.as_str(), result)).collect();
    let results: Vec<_> = named().map(|(name, result)| Named { name, result }).collect();
    html::overlay(&results, &against_the_first(&pairs))
}
