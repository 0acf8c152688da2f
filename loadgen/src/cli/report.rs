//! `loadgen report`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `loadgen report`, as typed.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Result files, or folders with a result.json
    #[arg(required = true, value_name = "FILES")]
    pub files: Vec<PathBuf>,
}
