//! `loadgen report`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `loadgen report`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// Result files, or folders with a result.json
    #[arg(required = true, value_name = "FILES")]
    pub files: Vec<PathBuf>,

    /// Also write them as one page; several are overlaid, and each is compared with the first.
    /// Files a/1, a/2, … are rounds of a
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Also draw what a connection costs by how many were held, of results of `loadgen hold`
    #[arg(long, value_name = "FILE")]
    pub growth: Option<PathBuf>,
}

const REPORT_EXAMPLES: &str = "\
Examples:
  loadgen report results                            the report, as the run printed it
  loadgen report results --html report.html         as a page for a browser
  loadgen report before after --html both.html      both, their curves overlaid
  loadgen report out/*/* --html sweep.html          a sweep: each cell against the first
  loadgen report 10k.json 100k.json --growth g.svg  what holding more costs, as a picture

Exit status: 0 fine, 1 runtime error, 2 a file is no result.";
