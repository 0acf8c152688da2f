//! What every result carries, whichever command it comes of, and the files that take it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::evidence::environment;
use crate::model::result::{Kind, RunResult, Tool};
use crate::render::output::{self, Output, OutputError};
use crate::render::{hgrm, hlog, html, terminal};

/// A result of this command with nothing measured in it yet.
pub(super) fn envelope(kind: Kind, began: SystemTime) -> RunResult {
    RunResult {
        kind,
        run_id: run_id(began),
        tool: tool(),
        started_at: humantime::format_rfc3339_millis(began).to_string(),
        argv: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        environment: environment::read(),
        ..RunResult::default()
    }
}

/// This program.
pub(super) fn tool() -> Tool {
    Tool {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: uring_echo::version::COMMIT.map(str::to_owned),
    }
}

/// The second of the begin and 64 random bits.
fn run_id(began: SystemTime) -> String {
    let date = humantime::format_rfc3339_seconds(began).to_string().replace(['-', ':'], "");
    format!("{date}-{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Where a result goes besides the text on stdout.
#[derive(Debug)]
pub(super) struct Destination {
    folder: Option<Folder>,
    json: Option<Output>,
    /// JSON takes the place of the text.
    json_alone: bool,
}

#[derive(Debug)]
struct Folder {
    log: Output,
    percentiles: Output,
    report: Output,
    result: Output,
}

impl Destination {
    /// Opens everything that `--out` and `--json` name.
    pub(super) fn open(out: Option<&Path>, json: Option<&Path>) -> Result<Self, OutputError> {
        let json_alone = json.is_some_and(|path| path.as_os_str() == "-");
        let json = json.filter(|_| !json_alone);
        Ok(Self {
            folder: out.map(Folder::open).transpose()?,
            json: json.map(Output::open).transpose()?,
            json_alone,
        })
    }

    /// Whether stdout carries JSON and nothing else.
    pub(super) fn json_alone(&self) -> bool {
        self.json_alone
    }

    /// Files of earlier results that are going to be replaced.
    pub(super) fn replaced(&self) -> impl Iterator<Item = &Path> {
        let folder = self.folder.iter().map(|folder| &folder.result);
        folder.chain(&self.json).filter(|output| output.replaces()).map(Output::path)
    }

    /// Prints the report; the files come later.
    pub(super) fn print_report(&self, result: &RunResult) -> io::Result<()> {
        if self.json_alone {
            return Ok(());
        }
        output::print(&terminal::report(result, output::style_of_stdout()))
    }

    /// Writes the files, and then what there is to say after the report. What fails is added to
    /// the problems of `result`.
    pub(super) fn finish(self, result: &mut RunResult) -> io::Result<()> {
        let json_alone = self.json_alone;
        let files = self.write(result);
        if json_alone {
            return output::print(&result.to_json());
        }
        let style = output::style_of_stdout();
        output::print(&terminal::afterwards(&result.problems, &files, style))
    }

    fn write(self, result: &mut RunResult) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Some(folder) = self.folder {
            let log = hlog::render(result).map_err(|error| error.to_string());
            write_one(folder.log, log, &mut files, result);
            let percentiles = hgrm::of(result).map_err(|error| error.to_string());
            write_one(folder.percentiles, percentiles, &mut files, result);
            let report = html::report(result);
            write_one(folder.report, Ok(report), &mut files, result);
            // Last: where it stands, the others belong to it, and it tells of those that failed.
            let text = result.to_json();
            write_one(folder.result, Ok(text), &mut files, result);
        }
        if let Some(json) = self.json {
            let text = result.to_json();
            write_one(json, Ok(text), &mut files, result);
        }
        files
    }
}

fn write_one(
    output: Output,
    text: Result<String, String>,
    files: &mut Vec<PathBuf>,
    result: &mut RunResult,
) {
    let path = output.path().display().to_string();
    let text = text.map_err(|cause| format!("{path} was not written: {cause}"));
    match text.and_then(|text| output.write(&text).map_err(|error| error.to_string())) {
        Ok(path) => files.push(path),
        Err(problem) => result.problems.push(problem),
    }
}

impl Folder {
    fn open(path: &Path) -> Result<Self, OutputError> {
        output::make_folder(path)?;
        Ok(Self {
            log: Output::open(&path.join("run.hlog"))?,
            percentiles: Output::open(&path.join("accept_delay.hgrm"))?,
            report: Output::open(&path.join("report.html"))?,
            result: Output::open(&path.join("result.json"))?,
        })
    }
}

/// The labels of a command line; the last of a name counts.
pub(super) fn labels(typed: &[(String, String)]) -> BTreeMap<String, String> {
    typed.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_different_names() {
        let began = SystemTime::UNIX_EPOCH;
        let (one, other) = (run_id(began), run_id(began));
        assert_ne!(one, other);
        assert!(one.starts_with("19700101T000000Z-"), "{one}");
    }

    #[test]
    fn a_file_that_fails_is_a_problem_and_the_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let full = Path::new("/dev/full");
        let destination = Destination::open(Some(folder.path()), Some(full)).unwrap();
        assert_eq!(destination.replaced().count(), 0);
        let mut result = RunResult::default();
        let files = destination.write(&mut result);
        assert_eq!(files.len(), 4);
        assert!(files.iter().all(|file| file.is_file()), "{files:?}");
        assert!(result.problems[0].contains("/dev/full"), "{:?}", result.problems);
        let again = Destination::open(Some(folder.path()), None).unwrap();
        assert_eq!(again.replaced().collect::<Vec<_>>(), [folder.path().join("result.json")]);
    }
}
