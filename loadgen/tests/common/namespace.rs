//! Scripts in network namespaces of their own, for the tests that need one.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A script for sh(1) with `$LOADGEN` in it, in a network namespace of its own whose lo is up.
/// Prints that it skips and returns `None` where there can be none.
pub(crate) fn in_namespace(script: &str) -> Option<Output> {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", script]).stdin(Stdio::null());
        command.env("LOADGEN", env!("CARGO_BIN_EXE_loadgen")).output()
    };
    let up = "ip link set lo up";
    let possible = || unshare(up).is_ok_and(|output| output.status.success());
    if !*POSSIBLE.get_or_init(possible) {
        eprintln!("SKIPPED, unshare --net --mount and ip need root: {script}");
        return None;
    }
    Some(unshare(&format!("{up} && {script}")).expect("it started before"))
}
