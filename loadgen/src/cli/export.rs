//! `loadgen export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `loadgen export`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// Result file, or a folder with a result.json
    pub file: PathBuf,

    /// The form
    #[arg(long, value_enum)]
    pub format: Format,

    /// Write it to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What a result can be exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A row per phase, for the whole run and for each interval; nanoseconds
    Csv,
    /// Percentiles of accept_delay, for HdrHistogram's plotters; milliseconds
    Hgrm,
    /// HdrHistogram interval log, for any HdrHistogram tool; accept_delay is untagged
    Hlog,
    /// Prometheus text format, for a textfile collector or a push gateway; seconds
    Prometheus,
    /// Tables for a README or an issue
    Markdown,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  loadgen export results --format markdown
  loadgen export results --format csv --out results/phases.csv
  loadgen export results --format prometheus --out /var/lib/node_exporter/loadgen.prom

Exit status: 0 fine, 1 runtime error, 2 the file is no result.";
