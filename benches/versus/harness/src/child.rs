//! Programs started by the harness: on one CPU if wanted, listened to, and ended by their own id.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

use crate::stop;

/// Lines of stderr that are kept to explain a failure.
const KEPT: usize = 5;
/// Between two looks at a program that is at work: rare, because looking takes CPU time.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at a program that was told to end.
const POLL_OFTEN: Duration = Duration::from_millis(2);
/// Between two looks whether a signal has come.
const SIGNALS_EVERY: Duration = Duration::from_millis(200);
/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// A running program; dropping it ends it.
pub(crate) struct Child {
    name: String,
    process: Process,
    lines: Receiver<String>,
    last: VecDeque<String>,
    output: Option<JoinHandle<String>>,
}

/// What a program left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Child {
    /// Starts `command`, on `cpu` alone if one is given.
    pub(crate) fn spawn(mut command: Command, cpu: Option<usize>) -> Result<Self> {
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A child inherits the affinity of the thread that starts it: so that thread is a new one.
        let started = thread::spawn(move || {
            if let Some(cpu) = cpu {
                let mut only = CpuSet::new();
                only.set(cpu);
                rustix::thread::sched_setaffinity(None, &only)?;
            }
            command.spawn()
        });
        let started = started.join().map_err(|_| anyhow!("the starting thread failed"))?;
        let mut process = started.with_context(|| format!("starting {name}"))?;
        let lines = lines_of(process.stderr.take().context("stderr is a pipe")?);
        let stdout = process.stdout.take().context("stdout is a pipe")?;
        let output = Some(thread::spawn(move || all_of(stdout)));
        Ok(Self { name, process, lines, last: VecDeque::new(), output })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line on stderr that contains `word`.
    pub(crate) fn wait_for(&mut self, word: &str, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        loop {
            stop::check()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(SIGNALS_EVERY)) {
                Ok(line) if line.contains(word) => return Ok(()),
                Ok(line) => self.keep(line),
                Err(RecvTimeoutError::Timeout) if left > SIGNALS_EVERY => {}
                Err(RecvTimeoutError::Timeout) => {
                    let words = self.last_stderr();
                    bail!("{}: no \"{word}\" within {timeout:?}: {words}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let words = self.last_stderr();
                    bail!("{} ended: {words}", self.name)
                }
            }
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// The last it said on stderr, in one line.
    pub(crate) fn last_stderr(&mut self) -> String {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line);
        }
        self.last.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" | ")
    }

    /// Waits for its end by itself.
    pub(crate) fn finish(mut self, timeout: Duration) -> Result<Ended> {
        let Some(status) = self.wait(timeout, POLL_EVERY, stop::check)? else {
            let words = self.last_stderr();
            bail!("{} did not end within {timeout:?}: {words}", self.name);
        };
        let output = self.output.take().context("output is taken once")?;
        let stdout = output.join().map_err(|_| anyhow!("the reading thread failed"))?;
        Ok(Ended { status, stdout, stderr: self.last_stderr() })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.process.id().try_into()?).context("an id is not zero")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    fn wait(
        &mut self,
        timeout: Duration,
        look_every: Duration,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(Some(status));
            }
            go_on()?;
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(look_every);
        }
    }

    /// Only what may explain a failure.
    fn keep(&mut self, line: String) {
        if line.trim().is_empty() || line.contains(" INFO ") {
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let asked = self.signal(Signal::TERM).is_ok();
        if asked && matches!(self.wait(GRACE, POLL_OFTEN, || Ok(())), Ok(Some(_))) {
            return;
        }
        // Killing what has ended already fails, and that is what was wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The lines of `stream`, read as they come so that the writer never has to wait.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(256);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
            // A full channel means that nobody waits for a line: then old ones are kept.
            drop(sender.try_send(line));
        }
    });
    receiver
}

fn all_of(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is what there is.
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::spawn(command, None).expect("a shell")
    }

    #[test]
    fn a_line_is_waited_for_and_the_output_kept() {
        let mut child = shell("echo noise >&2; echo ready >&2; echo result");
        child.wait_for("ready", Duration::from_secs(10)).expect("the line");
        let ended = child.finish(Duration::from_secs(10)).expect("an end");
        assert_eq!((ended.stdout.trim(), ended.stderr.as_str()), ("result", "noise"));
        assert!(ended.status.success());
    }

    #[test]
    fn an_early_end_tells_what_was_said() {
        let error = shell("echo no such option >&2; exit 2")
            .wait_for("listening", Duration::from_secs(10))
            .expect_err("no line");
        assert!(error.to_string().contains("no such option"), "{error}");
    }
}
