//! `serve --background`: a server in a process of its own; who asked for it ends once it is ready.
//!
//! Three processes, all of this program with the same arguments. The one that was asked starts one
//! that is only between, which starts the server and ends at once: so the server is nobody's child
//! but that of who takes orphans in, a service manager for instance, which thus learns of its end.
//! The server's standard input is a socket, by which it tells the one that was asked.

use std::env;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tracing::debug;

/// Which of the three a process is; the one that was asked finds nothing here.
const PART: &str = "URING_ECHO_BACKGROUND_PART";
const BETWEEN: &str = "between";
const SERVER: &str = "server";

/// A server that was started in the background.
#[derive(Debug)]
pub(super) struct Background;

impl Background {
    /// If this process is the server. It leaves the terminal of who asked.
    pub(super) fn of_this_process() -> Option<Self> {
        (part()? == SERVER).then(|| {
            if let Err(error) = rustix::process::setsid() {
                debug!(%error, "the session stays that of who asked");
            }
            Self
        })
    }

    /// Tells who asked that this process serves. One that has ended need not know.
    pub(super) fn ready(&self) {
        if let Err(error) = rustix::io::write(io::stdin(), b"r") {
            debug!(%error, "who asked for a server in the background was not told");
        }
    }
}

/// Starts the server and waits until it serves.
///
/// # Errors
/// It ended before that, and has said why on standard error.
pub(super) fn start() -> Result<()> {
    if part().is_some() {
        next(SERVER, Stdio::inherit())?.spawn().context("starting the server")?;
        return Ok(());
    }
    let (mut told, tells) = UnixStream::pair().context("a pair of sockets")?;
    // The command has the other end, which has to be closed here.
    let status = next(BETWEEN, OwnedFd::from(tells).into())?.status();
    let status = status.context("starting a process in the background")?;
    ensure!(status.success(), "the server in the background was not started ({status})");
    let len = told.read(&mut [0]).context("waiting for the server in the background")?;
    ensure!(len == 1, "the server in the background ended before it was ready; its log says why");
    Ok(())
}

fn part() -> Option<String> {
    env::var(PART).ok()
}

/// This program again. What a service manager gave to this process it gave to the server.
fn next(part: &str, stdin: Stdio) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("the path of this program")?);
    command.args(env::args_os().skip(1)).env(PART, part).stdin(stdin).stdout(Stdio::null());
    let this = std::process::id().to_string();
    for whose in ["LISTEN_PID", "WATCHDOG_PID"] {
        if env::var(whose).is_ok_and(|pid| pid == this) {
            command.env_remove(whose);
        }
    }
    Ok(command)
}
