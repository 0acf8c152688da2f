//! Which restrictions would end this process.
//!
//! A filter such as systemd's `SystemCallFilter=@system-service` knows neither landlock nor
//! seccomp. It may answer them with an error, or end whoever calls them. So where a filter is
//! active, a child process tries first: this program again, with the same arguments, which ends
//! before it looks at them.

use std::env;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::calls::Uses;
use super::denial::{Filter, active_filter};
use super::restriction::Restriction;
use super::{filter, landlock};
use crate::stamp::Engine;

/// Names the restriction that a child process is to try.
const TRY: &str = "URING_ECHO_TRY_RESTRICTION";

/// A restriction that this process must not apply, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    /// Which one.
    pub(super) restriction: Restriction,
    /// What happens to who tries.
    pub(super) reason: String,
}

/// Restrictions that a filter would end this process for. Where no filter is active it tries
/// nothing.
pub(super) fn find_denied() -> Vec<Denied> {
    let Some(filter) = active_filter() else { return Vec::new() };
    let all = [Restriction::Landlock, Restriction::Seccomp];
    let denied = all.map(|restriction| {
        let reason = denial(try_in_child(restriction), filter)?;
        Some(Denied { restriction, reason })
    });
    denied.into_iter().flatten().collect()
}

/// A child that reports an error is no reason: this process gets and reports the same one.
fn denial(tried: io::Result<ExitStatus>, filter: Filter) -> Option<String> {
    match tried {
        Ok(status) if status.signal() == Some(libc::SIGSYS) => {
            Some(format!("{filter}, which ends a process that tries"))
        }
        Ok(_) => None,
        Err(error) => Some(format!("it could not be tried in a child process: {error}")),
    }
}

fn try_in_child(restriction: Restriction) -> io::Result<ExitStatus> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(TRY, restriction.name());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
}

/// If this process is such a child: tries and ends.
#[must_use]
pub fn try_for_parent() -> Option<ExitCode> {
    let name = env::var_os(TRY)?;
    let tried = match name.to_str()? {
        "landlock" => landlock::restrict().map(drop),
        "seccomp" => filter::apply(Uses { engine: Engine::Uring, takeover: true, admin: Some(0) }),
        _ => return None,
    };
    Some(if tried.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
