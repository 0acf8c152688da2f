//! `loadgen export`: a result in a form for other programs.

use std::io;

use crate::cli::export::{ExportArgs, Format};
use crate::model::file::LoadError;
use crate::model::histogram::HistogramError;
use crate::model::result::RunResult;
use crate::render::output::{self, Output, OutputError};
use crate::render::{csv, hgrm, hlog, markdown, prometheus};

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file is no result. A usage error.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A histogram of the file cannot be read. A usage error.
    #[error("{file}: {cause}")]
    Histogram {
        /// Which file.
        file: String,
        /// What is wrong.
        cause: HistogramError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

/// Writes the text to the file, or prints it.
///
/// # Errors
/// [`ExportError`].
pub fn execute(args: &ExportArgs) -> Result<(), ExportError> {
    let result = RunResult::load(&args.file)?;
    let output = args.out.as_deref().map(Output::open).transpose()?;
    let text = match args.format {
        Format::Csv => Ok(csv::render(&result)),
        Format::Markdown => Ok(markdown::render(&result)),
        Format::Hgrm => hgrm::of(&result),
        Format::Hlog => hlog::render(&result),
        Format::Prometheus => prometheus::render(&result),
    };
    let file = args.file.display().to_string();
    let text = text.map_err(|cause| ExportError::Histogram { file, cause })?;
    match output {
        Some(output) => drop(output.write(&text)?),
        None => output::print(&text)?,
    }
    Ok(())
}
