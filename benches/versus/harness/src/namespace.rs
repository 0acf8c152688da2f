//! A network namespace of its own: no connection tracking, no other traffic, fresh counters.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Set in the environment once inside, to how it was entered.
const INSIDE: &str = "VERSUS_NETWORK";
const BY_UNSHARE: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
const RUN_WITH_LOOPBACK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Starts this program again inside a new namespace, if that is allowed, and does not return then.
/// Otherwise says on which network it runs.
///
/// # Errors
/// The namespace could be made, but not this program be started in it.
pub(crate) fn enter() -> Result<String> {
    if let Ok(network) = env::var(INSIDE) {
        return Ok(network);
    }
    let Some(flags) = BY_UNSHARE.into_iter().find(|flags| works(flags)) else {
        return Ok("the host's loopback (no network namespace could be made)".to_owned());
    };
    let how = format!("a network namespace of its own (unshare {})", flags.join(" "));
    let error = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", RUN_WITH_LOOPBACK])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, how)
        .exec();
    Err(error).context("entering a network namespace with unshare")
}

fn works(flags: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", RUN_WITH_LOOPBACK, "true"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
