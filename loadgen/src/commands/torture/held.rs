//! A process that is held goes on, whatever becomes of this program.
//!
//! Nothing that this program does at its end helps against SIGKILL, or against a second Ctrl-C. So
//! before it stops anything it starts itself once more, as a guard: that has the reading end of a
//! pipe whose writing end only the holder has, and a descriptor of the process that is held. When
//! the holder ends, in whatever way, the kernel closes the pipe and the guard sends SIGCONT.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::sys::given_process::{GivenProcess, UnusablePid, resume};

/// The hidden subcommand under which this program is a guard.
pub const GUARD: &str = "__continue";

/// This program as a guard. Its stdin is the pipe, its stdout the pidfd of the process that is
/// held, because those two are what a child can be given.
///
/// # Errors
/// Reading the pipe failed, or the process may no longer be signalled.
pub fn guard() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    resume(io::stdout())
}

/// Why a process is not held.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeldError {
    /// It is none that can be.
    #[error(transparent)]
    Pid(#[from] UnusablePid),
    /// There would be nobody to continue it.
    #[error("not stopped, because the process that would continue it cannot be started: {0}")]
    Guard(io::Error),
    /// The system refuses.
    #[error("stopping process {pid}: {source}")]
    Stop { pid: u32, source: io::Error },
}

/// A process that goes on when this value is gone, or this program.
#[derive(Debug)]
pub(super) struct Held {
    process: GivenProcess,
    guard: Child,
}

impl Held {
    pub(super) fn hold(pid: u32) -> Result<Self, HeldError> {
        let process = GivenProcess::open(pid)?;
        let guard = start_guard(&process).map_err(HeldError::Guard)?;
        eprintln!(
            "torture: process {pid} is stopped for a second; should it stay stopped because all \
             of loadgen was killed at once: kill -CONT {pid}"
        );
        let held = Self { process, guard };
        held.process.suspend().map_err(|source| HeldError::Stop { pid, source })?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.process.resume() {
            let pid = self.process.pid();
            eprintln!("torture: process {pid} does not go on: {error}; try kill -CONT {pid}");
        }
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("torture: the guard, process {}: {error}", self.guard.id());
        }
    }
}

/// In a process group of its own: a Ctrl-C at the terminal and a signal to the holder's group are
/// not for it.
fn start_guard(process: &GivenProcess) -> io::Result<Child> {
    let handle = process.as_fd().try_clone_to_owned()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(GUARD).stdin(Stdio::piped()).stdout(handle).process_group(0);
    command.spawn()
}
