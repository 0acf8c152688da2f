//! Starts programs where io_uring, or restricting oneself, is denied, as containers, services and
//! limits deny it.
//!
//! The test program starts itself again as the test [`becomes_a_program_with_less`], which denies
//! it to itself and then becomes the program: a filter and a limit outlive exec.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// What is denied, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// A seccomp filter answers EPERM, as Docker's does.
    Eperm,
    /// A seccomp filter answers ENOSYS, as podman's does.
    Enosys,
    /// RLIMIT_MEMLOCK is 0, and the user is not root.
    Memlock,
    /// RLIMIT_MEMLOCK suffices for the rings of two workers, and the user is not root.
    LittleMemlock,
    /// A seccomp filter answers landlock and seccomp with EPERM.
    SandboxEperm,
    /// A seccomp filter ends who calls landlock or seccomp, as a service's SystemCallFilter= does.
    SandboxKill,
    /// A seccomp filter answers unshare(2) with EPERM, as Docker's does.
    Namespaces,
}

impl Denial {
    /// The ways of denying io_uring.
    pub(crate) const ALL: [Self; 3] = [Self::Eperm, Self::Enosys, Self::Memlock];
    const OTHERS: [Self; 4] =
        [Self::LittleMemlock, Self::SandboxEperm, Self::SandboxKill, Self::Namespaces];

    /// What `program` did with `args`; `None`, loudly, where this user cannot deny it like this.
    pub(crate) fn run(self, program: &str, args: &[&str]) -> Option<Output> {
        if matches!(self, Self::Memlock | Self::LittleMemlock) && !geteuid().is_root() {
            eprintln!("SKIPPED, only root can become another user");
            return None;
        }
        let (_folder, program) = reachable(program);
        let mut output = self.command(&program, args).output().expect("the program starts");
        output.stdout = after_the_harness(&output.stdout);
        Some(output)
    }

    /// Starts `program`; what it prints comes after a line of the harness on stdout.
    pub(crate) fn command(self, program: &str, args: &[&str]) -> Command {
        let mut again = Command::new(env::current_exe().expect("a program"));
        again.args(["--exact", &helper_name(), "--ignored", "--nocapture"]);
        again.env("DENIAL", format!("{self:?}")).env("PROGRAM", program);
        again.env("ARGS", args.join(SEPARATOR)).env_remove("RUST_LOG").stdin(Stdio::null());
        again
    }

    /// Denies it to this thread and whatever it becomes.
    fn apply(self) -> Option<Command> {
        let mut program = Command::new(env::var_os("PROGRAM")?);
        let args = env::var("ARGS").expect("set with the program");
        program.args(args.split(SEPARATOR).filter(|arg| !arg.is_empty()));
        match self {
            Self::Eperm => filter(&IO_URING, errno(libc::EPERM)),
            Self::Enosys => filter(&IO_URING, errno(libc::ENOSYS)),
            Self::SandboxEperm => filter(&SANDBOX, errno(libc::EPERM)),
            Self::SandboxKill => filter(&SANDBOX, SeccompAction::KillProcess),
            Self::Namespaces => filter(&[libc::SYS_unshare], errno(libc::EPERM)),
            Self::Memlock => become_another(&mut program, 0, NOBODY),
            Self::LittleMemlock => become_another(&mut program, 400 << 10, SOMEBODY),
        }
        Some(program)
    }
}

#[test]
#[ignore = "not a test of its own: see the module"]
fn becomes_a_program_with_less() {
    let mut all = Denial::ALL.into_iter().chain(Denial::OTHERS);
    let denial = all.find(|denial| env::var("DENIAL") == Ok(format!("{denial:?}")));
    let Some(mut program) = denial.and_then(Denial::apply) else { return };
    panic!("exec: {}", program.exec());
}

/// What libtest calls it, wherever this file is a module of.
fn helper_name() -> String {
    let (_, modules) = module_path!().split_once("::").expect("a module of a test program");
    format!("{modules}::becomes_a_program_with_less")
}

const IO_URING: [i64; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
const SANDBOX: [i64; 4] = [
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_seccomp,
];

fn errno(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno.cast_unsigned())
}

/// From now on `calls` are answered like this.
fn filter(calls: &[i64], answer: SeccompAction) {
    let rules: BTreeMap<_, _> = calls.iter().map(|&call| (call, Vec::new())).collect();
    let architecture = TargetArch::try_from(env::consts::ARCH).expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("for the kernel");
    apply_filter(&program).expect("a filter");
}

/// libtest says that it runs a test before it does.
fn after_the_harness(stdout: &[u8]) -> Vec<u8> {
    let announced = b"running 1 test\n";
    let at = stdout.windows(announced.len()).position(|window| window == announced);
    stdout[at.map_or(0, |at| at + announced.len())..].to_vec()
}

const SEPARATOR: &str = "\u{1f}";
const NOBODY: u32 = 65534;
/// A user without other processes: what a user may lock is shared by all of them.
const SOMEBODY: u32 = 61_377;

/// Another user may not reach the folder that the program was built in: a copy that anybody can
/// start, and its folder, which is removed when dropped.
pub(crate) fn reachable(program: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    if !Path::new(program).is_absolute() {
        return (folder, program.to_owned());
    }
    let copy = folder.path().join("program");
    fs::copy(program, &copy).expect("a program");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let copy = copy.to_str().expect("UTF-8").to_owned();
    (folder, copy)
}

fn become_another(program: &mut Command, memlock: u64, user: u32) {
    let limit = Rlimit { current: Some(memlock), maximum: Some(memlock) };
    setrlimit(Resource::Memlock, limit).expect("a lower limit");
    program.gid(user).uid(user);
}
