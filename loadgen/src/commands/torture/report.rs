//! `loadgen torture` as a command: rows as they come, a summary, JSON.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::{CaseResult, Options, UnknownCase, Verdict, results, select};
use crate::cli::TortureArgs;
use crate::plan::config::{ConfigError, lookup};
use crate::render::units;

/// Why the command could not run or tell.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// A case was asked for that is not there.
    #[error(transparent)]
    Case(#[from] UnknownCase),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] ConfigError),
    /// Nobody is there.
    #[error("nobody answers at {addr}: {source}")]
    Nobody {
        /// Where.
        addr: SocketAddr,
        /// What connecting failed with.
        source: io::Error,
    },
    /// Rows or JSON could not be written.
    #[error("writing the result")]
    Write(#[from] io::Error),
}

/// Runs the suite as typed and prints a row per case as it ends. Returns whether none failed.
///
/// # Errors
/// [`TortureError`].
pub fn execute(args: &TortureArgs) -> Result<bool, TortureError> {
    let cases = select(&args.case)?;
    let addr = lookup(&args.addr, &[])?;
    std::net::TcpStream::connect(addr).map_err(|source| TortureError::Nobody { addr, source })?;
    let options = Options { quick: args.quick, pid: args.pid };
    let json_alone = args.json.as_deref().is_some_and(|path| path == Path::new("-"));
    let mut done = Vec::new();
    for result in results(addr, options, cases) {
        if !json_alone {
            writeln!(io::stdout().lock(), "{}", row(&result))?;
        }
        done.push(result);
    }
    let summary = Summary::new(addr, options, done);
    if !json_alone {
        writeln!(io::stdout().lock(), "\n{}", summary.words())?;
    }
    if let Some(path) = &args.json {
        write_json(path, &summary)?;
    }
    Ok(summary.failed == 0)
}

#[derive(Debug, Serialize)]
struct Summary {
    addr: SocketAddr,
    quick: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
    cases: Vec<CaseResult>,
}

impl Summary {
    fn new(addr: SocketAddr, options: Options, cases: Vec<CaseResult>) -> Self {
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
        let (passed, failed) = (count(Verdict::Passed), count(Verdict::Failed));
        let skipped = count(Verdict::Skipped);
        Self { addr, quick: options.quick, passed, failed, skipped, cases }
    }

    fn words(&self) -> String {
        let Self { passed, failed, skipped, addr, .. } = self;
        format!("{addr}: {passed} passed, {failed} failed, {skipped} skipped")
    }
}

fn row(result: &CaseResult) -> String {
    let verdict = match result.verdict {
        Verdict::Passed => "PASS",
        Verdict::Failed => "FAIL",
        Verdict::Skipped => "skip",
    };
    let took = units::duration(u64::try_from(result.took.as_nanos()).unwrap_or(u64::MAX));
    format!("{verdict}  {:<20} {took:>7}  {}", result.name, result.words)
}

fn write_json(path: &Path, summary: &Summary) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(summary)?;
    text.push('\n');
    if path == Path::new("-") {
        return io::stdout().lock().write_all(text.as_bytes());
    }
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn result(verdict: Verdict) -> CaseResult {
        let took = Duration::from_millis(12);
        CaseResult { name: "burst", verdict, words: "so it went".into(), took }
    }

    #[test]
    fn a_row_says_what_happened() {
        let expected = "FAIL  burst                 12.0ms  so it went";
        assert_eq!(row(&result(Verdict::Failed)), expected);
    }

    #[test]
    fn the_summary_counts() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 7));
        let cases = [Verdict::Passed, Verdict::Failed, Verdict::Passed].map(result).to_vec();
        let summary = Summary::new(addr, Options::default(), cases);
        assert_eq!(summary.words(), "127.0.0.1:7: 2 passed, 1 failed, 0 skipped");
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["cases"][1]["verdict"], "failed");
        assert_eq!(json["cases"][0]["took_ms"], 12.0);
    }
}
