//! `loadgen compare`: do A and B differ?

use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::envelope::{Destination, envelope};
use crate::analyse::compare::{self, CompareError, Results};
use crate::cli::compare::CompareArgs;
use crate::model::file::LoadError;
use crate::model::folder::load_all;
use crate::model::quantile::Quantile;
use crate::model::result::{Kind, RunResult};
use crate::model::verdict::Verdict;
use crate::render::output::OutputError;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareFailure {
    /// A file is no result.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The results cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The file for the comparison cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The comparison was made and its file was not written.
    #[error("{0}")]
    Unwritten(String),
    /// stdout refused the text.
    #[error("writing to stdout")]
    Print(#[from] io::Error),
}

impl CompareFailure {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Load(_) | Self::Compare(_))
    }
}

/// Compares and prints what may be concluded.
///
/// # Errors
/// [`CompareFailure`].
pub fn execute(args: &CompareArgs) -> Result<(), CompareFailure> {
    let destination = Destination::open(None, args.json.as_deref())?;
    let (a, b) = (load_all(&args.a)?, load_all(&args.b)?);
    let shown = |path: &Path| path.display().to_string();
    let (first, second) = (shown(&args.a), shown(&args.b));
    let quantiles = match args.quantile[..] {
        [] => &[Quantile::P50, Quantile::P99],
        _ => &args.quantile[..],
    };
    let (a, b) = (Results { path: &first, found: &a }, Results { path: &second, found: &b });
    let comparison = compare::compare(a, b, args.phase, quantiles)?;
    let mut result = RunResult {
        comparison: Some(comparison),
        verdict: Verdict::of(Vec::new(), Vec::new()),
        ..envelope(Kind::Comparison, SystemTime::now())
    };
    destination.print_report(&result)?;
    destination.finish(&mut result)?;
    match result.problems.pop() {
        Some(problem) => Err(CompareFailure::Unwritten(problem)),
        None => Ok(()),
    }
}
