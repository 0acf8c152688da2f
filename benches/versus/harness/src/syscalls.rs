//! How many system calls a server makes, counted from outside in a run of its own: perf's count
//! where it is allowed (a server hardly notices), strace's where not (a server is slowed by it).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::builds::find;
use crate::child::Child;

const EVENT: &str = "raw_syscalls:sys_enter";
/// What attaching may take.
const ATTACHING: Duration = Duration::from_millis(250);
/// How long a load is silent before its first and after its last message, so that all its calls
/// are counted: longer than attaching takes.
pub(crate) const SILENCE_MS: u64 = 400;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The program that counts.
#[derive(Debug)]
pub(crate) enum Counter {
    Perf(PathBuf),
    Strace(PathBuf),
    Missing,
}

impl Counter {
    pub(crate) fn find() -> Self {
        let path = env::var_os("PATH");
        let installed = |name| find(name, path.as_deref());
        match (installed("perf").filter(|perf| perf_may_count(perf)), installed("strace")) {
            (Some(perf), _) => Self::Perf(perf),
            (None, Some(strace)) => Self::Strace(strace),
            (None, None) => Self::Missing,
        }
    }

    pub(crate) fn about(&self) -> &'static str {
        match self {
            Self::Perf(_) => "counted by perf stat",
            Self::Strace(_) => "counted by strace, which slows the server",
            Self::Missing => "not available: neither perf (with tracepoints) nor strace",
        }
    }

    /// Counts the calls of `pid` from now on, in a file of `folder`; nothing where neither
    /// program is there.
    pub(crate) fn attach(&self, pid: u32, folder: &Path) -> Result<Option<Counting<'_>>> {
        let (program, flags): (_, &[&str]) = match self {
            Self::Perf(program) => (program, &["stat", "-x", ",", "-e", EVENT]),
            Self::Strace(program) => (program, &["-c", "-f", "-U", "calls,name"]),
            Self::Missing => return Ok(None),
        };
        let out = folder.join("syscalls");
        let mut command = Command::new(program);
        command.args(flags).arg("-o").arg(&out).args(["-p", &pid.to_string()]);
        let child = Child::spawn(command, None)?;
        thread::sleep(ATTACHING);
        Ok(Some(Counting { counter: self, child, out }))
    }

    fn read(&self, text: &str) -> Option<u64> {
        match self {
            Self::Perf(_) => perf_count(text),
            Self::Strace(_) => strace_total(text),
            Self::Missing => None,
        }
    }
}

/// A count that is being taken.
pub(crate) struct Counting<'a> {
    counter: &'a Counter,
    child: Child,
    out: PathBuf,
}

impl Counting<'_> {
    /// The calls since it was attached.
    pub(crate) fn finish(self) -> Result<u64> {
        self.child.signal(Signal::INT)?;
        let ended = self.child.finish(TIMEOUT)?;
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        self.counter.read(&text).with_context(|| format!("no count: {}", ended.stderr))
    }
}

fn perf_may_count(perf: &Path) -> bool {
    let mut command = Command::new(perf);
    command.args(["stat", "-e", EVENT, "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// From `perf stat -x,`: the count is the first field of the event's line.
fn perf_count(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.parse().ok()
}

/// From `strace -c -U calls,name`: the line of the total.
fn strace_total(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_counts_are_the_first_field() {
        let text = "# started on Mon\n\n144,,raw_syscalls:sys_enter,2028948,100.00,,\n";
        assert_eq!(perf_count(text), Some(144));
        assert_eq!(perf_count("<not counted>,,raw_syscalls:sys_enter,0,100.00,,"), None);
    }

    #[test]
    fn strace_totals_are_on_the_last_line() {
        let text = "    calls syscall\n--------- ----\n      120 read\n       24 write\n--------- \
                    ----\n      144 total\n";
        assert_eq!(strace_total(text), Some(144));
        assert_eq!(strace_total(""), None);
    }
}
