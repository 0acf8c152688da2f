//! Scripts in network namespaces of their own, for the tests that need one.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A script for sh(1) with `$LOADGEN` in it, in a network namespace of its own whose lo is up.
/// Prints that it skips and returns `None` where there can be none.
pub(crate) fn in_namespace(script: &str) -> Option<Output> {
    if !is_possible() {
        eprintln!("SKIPPED, unshare --net --mount and ip need root: {script}");
        return None;
    }
    Some(unshared(script).output().expect("it started before"))
}

/// Whether there can be such a namespace.
pub(crate) fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| unshared("true").output().is_ok_and(|it| it.status.success()))
}

/// The script as a command that is to be started; what it ends in by `exec` has its process id.
pub(crate) fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("ip link set lo up && {script}");
    command.args(["--net", "--mount", "sh", "-c", &script]).stdin(Stdio::null());
    command.env("LOADGEN", env!("CARGO_BIN_EXE_loadgen"));
    command
}
