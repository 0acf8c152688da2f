//! `loadgen run` as a process of its own, whose result is a file: the runs of a sweep and of a
//! search. Each starts as a run that a person started, with its own server, CPUs and priority.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::model::file::LoadError;
use crate::model::result::RunResult;
use crate::sys::signals::StopFlag;

/// Why a run gave no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    /// The process could not be started or waited for.
    #[error("starting loadgen run")]
    System(#[from] io::Error),
    /// The run ended without a result.
    #[error("the run ended with {status}: {said}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// The folder holds the result of another command.
    #[error(
        "{folder} holds the result of other arguments ({theirs}): choose another --out, or remove \
         it",
        folder = .folder.display()
    )]
    OtherArguments {
        /// Which folder.
        folder: PathBuf,
        /// The arguments.
        theirs: String,
    },
    /// The result cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// A run and the folder that takes its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChildRun {
    /// From `run` on, without `--out`.
    pub(super) arguments: Vec<String>,
    /// Arguments of the embedded server.
    pub(super) server: Vec<String>,
    pub(super) folder: PathBuf,
}

impl ChildRun {
    /// The result that an earlier run of the same arguments left, if it is whole.
    pub(super) fn finished(&self) -> Result<Option<RunResult>, ChildError> {
        let Ok(result) = RunResult::load(&self.folder) else { return Ok(None) };
        let theirs = without_out(result.argv.get(1..).unwrap_or_default());
        if theirs != without_out(&self.argv()) {
            let (folder, theirs) = (self.folder.clone(), theirs.join(" "));
            return Err(ChildError::OtherArguments { folder, theirs });
        }
        let whole = result.problems.is_empty() && (!result.interrupted || result.aborted.is_some());
        Ok(whole.then_some(result))
    }

    /// Runs it, and passes a request to stop on.
    pub(super) fn measure(&self, stop: &StopFlag) -> Result<RunResult, ChildError> {
        if stop.is_set() {
            return Err(ChildError::Interrupted);
        }
        let mut said = tempfile::tempfile()?;
        let mut child = self.start(&said)?;
        let status = wait(&mut child, stop)?;
        if stop.is_set() {
            return Err(ChildError::Interrupted);
        }
        let left_a_result = matches!(status.code(), Some(0 | 3 | 4));
        if !left_a_result {
            let said = read_back(&mut said)?;
            return Err(ChildError::Ended { status, said });
        }
        Ok(RunResult::load(&self.folder)?)
    }

    /// In a process group of its own: Ctrl-C in the terminal reaches this process alone, which
    /// passes it on once.
    fn start(&self, said: &File) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.argv()).process_group(0);
        // These are the whole command's and not those of one run.
        command.env_remove("LOADGEN_OUT").env_remove("LOADGEN_JSON");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?).spawn()
    }

    fn argv(&self) -> Vec<String> {
        let out = ["--out".to_owned(), self.folder.display().to_string()];
        let mut argv = [&self.arguments[..], &out].concat();
        if !self.server.is_empty() {
            argv.push("--".into());
            argv.extend_from_slice(&self.server);
        }
        argv
    }
}

/// The folder may be named in another way, or have been moved.
fn without_out(argv: &[String]) -> Vec<&str> {
    let of_server = argv.iter().position(|arg| arg == "--").unwrap_or(argv.len());
    let out = argv[..of_server].iter().rposition(|arg| arg == "--out");
    let kept = |at: usize| out.is_none_or(|out| at != out && at != out + 1);
    argv.iter().enumerate().filter(|(at, _)| kept(*at)).map(|(_, arg)| arg.as_str()).collect()
}

fn wait(child: &mut Child, stop: &StopFlag) -> io::Result<ExitStatus> {
    let mut passed_on = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.is_set() && !passed_on {
            kill_process(Pid::from_child(child), Signal::INT)?;
            passed_on = true;
        }
        thread::sleep(TICK);
    }
}

const TICK: Duration = Duration::from_millis(20);

/// Its last lines.
fn read_back(said: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    said.rewind()?;
    said.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"))
}

const LINES_SHOWN: usize = 5;

/// What was typed for the runs: everything after the subcommand but the flags of the command
/// itself, each of which takes a value.
pub(super) fn inherited(argv: &[String], own: &[&str]) -> Vec<String> {
    let mut inherited = Vec::new();
    let mut arguments = argv.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        let flag = argument.split('=').next().unwrap_or_default();
        if !own.contains(&flag) {
            inherited.push(argument.clone());
        } else if flag == argument {
            arguments.next();
        }
    }
    inherited
}

/// The arguments of this process after the subcommand.
pub(super) fn typed() -> Vec<String> {
    std::env::args_os().skip(2).map(|arg| arg.to_string_lossy().into_owned()).collect()
}

/// A path as an argument: the folders of a sweep are named by this program.
pub(super) fn folder_of(out: &Path, cell: &str, round: u32) -> PathBuf {
    out.join(cell).join(round.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn runs_inherit_what_is_not_the_commands_own() {
        let typed = "127.0.0.1:7 --rates 1k,2k --over=size=64 --rounds 3 --size=64 --quiet --out o \
                     --label out=x -- --out y";
        let own = ["--rates", "--over", "--rounds", "--out", "--json"];
        assert_eq!(
            inherited(&words(typed), &own),
            words("127.0.0.1:7 --size=64 --quiet --label out=x")
        );
    }

    #[test]
    fn only_a_whole_result_of_the_same_arguments_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let run = ChildRun {
            arguments: words("run --rate 5"),
            server: words("--backlog 7"),
            folder: folder.path().join("1"),
        };
        assert!(run.finished().unwrap().is_none());
        let mut result = RunResult {
            argv: words("/bin/loadgen run --rate 5 --out elsewhere -- --backlog 7"),
            ..RunResult::default()
        };
        let write = |text: &str| {
            std::fs::create_dir_all(&run.folder).unwrap();
            std::fs::write(run.folder.join("result.json"), text).unwrap();
        };
        write(&result.to_json());
        assert!(run.finished().unwrap().is_some());
        write(&result.to_json()[..100]);
        assert!(run.finished().unwrap().is_none(), "half-written");
        result.interrupted = true;
        write(&result.to_json());
        assert!(run.finished().unwrap().is_none(), "interrupted");
        result.argv = words("loadgen run --rate 6 --out elsewhere -- --backlog 7");
        write(&result.to_json());
        let error = run.finished().unwrap_err().to_string();
        assert!(error.contains("other arguments (run --rate 6 -- --backlog 7)"), "{error}");
    }
}
