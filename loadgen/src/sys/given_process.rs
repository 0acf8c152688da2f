//! A process that the user named by its id.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

/// A process id that names nothing to be stopped.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePid {
    /// No process has it.
    #[error("there is no process {0} in this PID namespace: give the server's (ss -ltnp shows it)")]
    Missing(u32),
    /// It has ended, and its parent has not asked for its status yet.
    #[error("process {0} has ended: give that of a running server")]
    Ended(u32),
    /// It is a thread of a process.
    #[error("{0} is a thread and no process: give the process that it belongs to")]
    Thread(u32),
    /// The first process of a PID namespace.
    #[error(
        "process 1 is the first of its PID namespace, which the kernel does not let anyone in it \
         stop: run loadgen outside of that container and give the process id that it has there"
    )]
    First,
    /// It is this program, or one that waits for it.
    #[error(
        "process {0} is loadgen itself or one that started it: stopped, nobody would continue it"
    )]
    Ancestor(u32),
    /// It may not be signalled.
    #[error("process {pid} may not be stopped ({cause}): run loadgen as its user or as root")]
    Denied {
        /// Its process id.
        pid: u32,
        /// What kill(2) said.
        cause: io::Error,
    },
    /// The kernel cannot name it safely.
    #[error("process {pid} cannot be referred to: {cause}; it takes pidfd_open(2), Linux 5.3")]
    NoHandle {
        /// Its process id.
        pid: u32,
        /// What pidfd_open(2) said.
        cause: io::Error,
    },
}

/// A process by a descriptor (pidfd): once it has ended, no other process is meant by it.
#[derive(Debug)]
pub struct GivenProcess {
    pid: u32,
    handle: OwnedFd,
}

impl GivenProcess {
    /// The process `pid`, if it can be stopped and continued without harm to this program.
    ///
    /// # Errors
    /// [`UnusablePid`].
    pub fn open(pid: u32) -> Result<Self, UnusablePid> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(UnusablePid::Missing(pid))?;
        if pid == 1 {
            return Err(UnusablePid::First);
        }
        if is_ancestor(pid) {
            return Err(UnusablePid::Ancestor(pid));
        }
        let handle = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| match errno {
            Errno::SRCH => UnusablePid::Missing(pid),
            Errno::INVAL | Errno::NOENT => UnusablePid::Thread(pid),
            _ => UnusablePid::NoHandle { pid, cause: errno.into() },
        })?;
        test_kill_process(number)
            .map_err(|errno| UnusablePid::Denied { pid, cause: errno.into() })?;
        match stat(pid) {
            Some(('Z', _)) => Err(UnusablePid::Ended(pid)),
            _ => Ok(Self { pid, handle }),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Suspends it (SIGSTOP, signal(7)).
    ///
    /// # Errors
    /// The error of pidfd_send_signal(2).
    pub fn suspend(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, Signal::STOP)?)
    }

    /// Resumes it; no effect on one that is not suspended or has ended.
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    pub fn resume(&self) -> io::Result<()> {
        resume(&self.handle)
    }
}

impl AsFd for GivenProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// As [`GivenProcess::resume`], by the descriptor alone.
///
/// # Errors
/// The error of pidfd_send_signal(2).
pub fn resume(handle: impl AsFd) -> io::Result<()> {
    match pidfd_send_signal(handle, Signal::CONT) {
        Err(Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether it is this process, or its parent, or the parent of that and so on.
fn is_ancestor(pid: u32) -> bool {
    let parent = |pid: &u32| stat(*pid).map(|(_, parent)| parent).filter(|parent| *parent > 0);
    std::iter::successors(Some(std::process::id()), parent).any(|ancestor| ancestor == pid)
}

/// The state of a process and its parent (proc_pid_stat(5)). The name before them may hold
/// anything.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_suspended_and_resumed_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = GivenProcess::open(child.id()).unwrap();
        process.suspend().unwrap();
        let state = || stat(child.id()).map(|(state, _)| state);
        while state() != Some('T') {
            std::thread::yield_now();
        }
        process.resume().unwrap();
        while state() == Some('T') {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        process.resume().unwrap();
        assert!(matches!(GivenProcess::open(process.pid()), Err(UnusablePid::Missing(_))));
    }

    #[test]
    fn one_that_would_never_be_continued_is_refused() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        for pid in [own, parent] {
            let refused = GivenProcess::open(pid).unwrap_err();
            assert!(matches!(refused, UnusablePid::Ancestor(_) | UnusablePid::First), "{refused}");
        }
        assert!(matches!(GivenProcess::open(1), Err(UnusablePid::First)));
        for pid in [0, i32::MAX.unsigned_abs(), u32::MAX] {
            assert!(matches!(GivenProcess::open(pid), Err(UnusablePid::Missing(_))), "{pid}");
        }
    }

    #[test]
    fn an_ended_one_is_told_from_a_running_one() {
        let mut child = Command::new("true").stdout(Stdio::null()).spawn().unwrap();
        while stat(child.id()).map(|(state, _)| state) != Some('Z') {
            std::thread::yield_now();
        }
        assert!(matches!(GivenProcess::open(child.id()), Err(UnusablePid::Ended(_))));
        child.wait().unwrap();
    }
}
