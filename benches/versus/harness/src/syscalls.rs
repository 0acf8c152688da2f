//! How many system calls a server makes, counted from outside in a run of its own: perf's count
//! where it is allowed (a server hardly notices), strace's where not (a server is slowed by it).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::bench::{Bench, Measured};
use crate::builds::find;
use crate::child::Child;
use crate::server::Server;

const EVENT: &str = "raw_syscalls:sys_enter";
/// What attaching may take; the client is silent for longer.
const ATTACHING: Duration = Duration::from_millis(250);
const SILENCE_MS: u64 = 400;
const PATIENCE: Duration = Duration::from_secs(10);

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

    fn attach(&self, pid: u32, out: &Path) -> Result<Child> {
        let (program, flags): (_, &[&str]) = match self {
            Self::Perf(program) => (program, &["stat", "-x", ",", "-e", EVENT]),
            Self::Strace(program) => (program, &["-c", "-f", "-U", "calls,name"]),
            Self::Missing => bail!("{}", self.about()),
        };
        let mut command = Command::new(program);
        command.args(flags).arg("-o").arg(out).args(["-p", &pid.to_string()]);
        Child::spawn(command, None)
    }

    fn read(&self, text: &str) -> Option<u64> {
        match self {
            Self::Perf(_) => perf_count(text),
            Self::Strace(_) => strace_total(text),
            Self::Missing => None,
        }
    }
}

/// System calls per message while the harness's client does `load`.
pub(crate) fn per_echo(bench: &Bench, server: &Server, load: &str) -> Result<Measured> {
    if matches!(bench.counter, Counter::Missing) {
        return Ok(Measured::default());
    }
    let out = bench.place.folder.join("syscalls");
    let mut client = bench.client(server, &format!("{load} --warmup 0 --settle {SILENCE_MS}"))?;
    let counter = bench.counter.attach(server.id(), &out)?;
    thread::sleep(ATTACHING);
    client.wait_for_last()?;
    counter.signal(Signal::INT)?;
    let ended = counter.finish(PATIENCE)?;
    let seen = client.finish()?;
    let text = fs::read_to_string(&out).unwrap_or_default();
    let calls = bench.counter.read(&text).with_context(|| format!("no count: {}", ended.stderr))?;
    let per_echo = (seen.messages > 0).then(|| calls as f64 / seen.messages as f64);
    Ok(Measured::default().with("syscalls", per_echo))
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
