//! Running a case in a network namespace of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// No privilege outside of the namespace: uid 65534 if this is root, else this user.
    Nobody,
    /// Root outside of every user namespace.
    Root,
}

const INSIDE: &str = "WATCH_TRUTH_INSIDE";
const LOADGEN: &str = "WATCH_TRUTH_LOADGEN";

/// The program under test, where the user that runs the case may execute it.
pub(crate) fn loadgen() -> PathBuf {
    std::env::var_os(LOADGEN).map_or_else(|| env!("CARGO_BIN_EXE_loadgen").into(), PathBuf::from)
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Copies that any user may execute: a checkout may lie where only root may look.
pub(crate) struct Programs {
    _folder: TempDir,
    pub(crate) this: PathBuf,
    pub(crate) loadgen: PathBuf,
}

impl Programs {
    pub(crate) fn copied() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        let copy = |from: &Path, name: &str| {
            let to = folder.path().join(name);
            fs::copy(from, &to).unwrap();
            to
        };
        let this = copy(&std::env::current_exe().unwrap(), "this");
        let loadgen = copy(&loadgen(), "loadgen");
        Self { _folder: folder, this, loadgen }
    }
}

/// How a shell script runs in a new network namespace as `user`; `None` where that is not possible.
pub(crate) fn unshared(user: As, script: &str) -> Option<Command> {
    let (namespaces, then): (&[&str], &str) = match (is_root(), user) {
        (true, As::Root) => (&["--net"], ""),
        (true, As::Nobody) => {
            (&["--net"], "setpriv --reuid 65534 --regid 65534 --clear-groups -- ")
        }
        (false, As::Nobody) => (&["--user", "--map-root-user", "--net"], ""),
        (false, As::Root) => return None,
    };
    let command = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", script]);
        command
    };
    let up = "ip link set lo up";
    let mut probe = command(&format!("{up} && {then}true"));
    let possible = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    possible.is_ok_and(|status| status.success()).then_some(())?;
    Some(command(&format!("{up} && exec {then}{script}")))
}

/// Runs `case`, which is the body of `test`, in a namespace of its own, or says why not.
pub(crate) fn inside(test: &str, user: As, case: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return case();
    }
    let Some(mut command) = unshared(user, "\"$0\" --exact \"$1\" --nocapture") else {
        return eprintln!("SKIPPED {test}: no network namespace can be made as that user");
    };
    let programs = Programs::copied();
    command.arg(&programs.this).arg(test).env(INSIDE, "1").env(LOADGEN, &programs.loadgen);
    let output = command.output().expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{}", said.lines().filter(|l| l.contains("SKIPPED")).collect::<String>());
    assert!(output.status.success(), "{said}");
}
