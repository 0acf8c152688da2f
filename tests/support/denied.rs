//! Starts programs where io_uring is denied, as containers, services and limits deny it.
//!
//! The test program starts itself again as the test [`becomes_a_program_without_io_uring`], which
//! denies io_uring to itself and then becomes the program: a filter and a limit outlive exec.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// How io_uring is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// A seccomp filter answers EPERM, as Docker's does.
    Eperm,
    /// A seccomp filter answers ENOSYS, as podman's does.
    Enosys,
    /// RLIMIT_MEMLOCK is 0, and the user is not root.
    Memlock,
}

impl Denial {
    pub(crate) const ALL: [Self; 3] = [Self::Eperm, Self::Enosys, Self::Memlock];

    /// What `program` did with `args`; `None`, loudly, where this user cannot deny it like this.
    pub(crate) fn run(self, program: &str, args: &[&str]) -> Option<Output> {
        if self == Self::Memlock && !geteuid().is_root() {
            eprintln!("SKIPPED, only root can become another user");
            return None;
        }
        // Another user may not reach the folder that the program was built in.
        let folder = tempfile::tempdir().expect("a folder");
        let mine = folder.path().join("program");
        let reachable = Path::new(program).is_absolute();
        if reachable {
            fs::copy(program, &mine).expect("a program");
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        }
        let program = if reachable { mine.to_str().expect("UTF-8") } else { program };
        let mut output = self.command(program, args).output().expect("the program starts");
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
            Self::Eperm => apply_filter(&filter(libc::EPERM)).expect("a filter"),
            Self::Enosys => apply_filter(&filter(libc::ENOSYS)).expect("a filter"),
            Self::Memlock => {
                let none = Rlimit { current: Some(0), maximum: Some(0) };
                setrlimit(Resource::Memlock, none).expect("a lower limit");
                program.gid(NOBODY).uid(NOBODY);
            }
        }
        Some(program)
    }
}

#[test]
#[ignore = "not a test of its own: see the module"]
fn becomes_a_program_without_io_uring() {
    let denial =
        Denial::ALL.into_iter().find(|denial| env::var("DENIAL") == Ok(format!("{denial:?}")));
    let Some(mut program) = denial.and_then(Denial::apply) else { return };
    panic!("exec: {}", program.exec());
}

/// What libtest calls it, wherever this file is a module of.
fn helper_name() -> String {
    let (_, modules) = module_path!().split_once("::").expect("a module of a test program");
    format!("{modules}::becomes_a_program_without_io_uring")
}

fn filter(errno: i32) -> BpfProgram {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let denied = SeccompAction::Errno(errno.cast_unsigned());
    let architecture = TargetArch::try_from(env::consts::ARCH).expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture);
    filter.and_then(TryInto::try_into).expect("a program for the kernel")
}

/// libtest says that it runs a test before it does.
fn after_the_harness(stdout: &[u8]) -> Vec<u8> {
    let announced = b"running 1 test\n";
    let at = stdout.windows(announced.len()).position(|window| window == announced);
    stdout[at.map_or(0, |at| at + announced.len())..].to_vec()
}

const SEPARATOR: &str = "\u{1f}";
const NOBODY: u32 = 65534;
