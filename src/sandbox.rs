//! What the process gives up once it serves: everything it will not need again.
//!
//! Three restrictions complement each other. The rings are restricted when they are made
//! (`src/ring/setup.rs`), because a seccomp filter does not see what a ring does. Landlock denies
//! the file system and every TCP port, for the threads that are started after it. The seccomp
//! filter comes last, when all rings exist, and denies making more of them, starting programs and
//! writing files, for all threads at once.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::config::SandboxMode;

/// A restriction that could not be applied although it was required.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox require: {restriction} is not to be had here: {reason}")]
pub struct SandboxError {
    /// Which one.
    pub restriction: &'static str,
    /// What the system said.
    pub reason: String,
}

/// The restrictions of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    mode: SandboxMode,
    /// Restrictions in force.
    pub active: Vec<&'static str>,
    /// Restrictions that are not available, with the reason.
    pub missing: Vec<String>,
}

impl Sandbox {
    /// Nothing is restricted yet.
    #[must_use]
    pub const fn new(mode: SandboxMode) -> Self {
        Self { mode, active: Vec::new(), missing: Vec::new() }
    }

    /// After listeners are bound, before workers start: no new privileges, no file system except
    /// reading `/proc` and control groups (diagnoses need them), no TCP port to bind or connect to.
    ///
    /// # Errors
    /// Under `require`, the first restriction that is not available.
    pub fn restrict_before_workers(&mut self) -> Result<(), SandboxError> {
        self.apply("no_new_privs", || {
            rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
        })?;
        self.apply("landlock", landlock)
    }

    /// After every ring exists: no more rings, no programs, no files to write.
    ///
    /// # Errors
    /// Under `require`, if the filter cannot be installed.
    pub fn restrict_when_ready(&mut self) -> Result<(), SandboxError> {
        self.apply("seccomp", seccomp)
    }

    fn apply(
        &mut self,
        restriction: &'static str,
        apply: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), SandboxError> {
        if self.mode == SandboxMode::Off {
            return Ok(());
        }
        match apply() {
            Ok(()) => self.active.push(restriction),
            Err(reason) if self.mode == SandboxMode::Require => {
                return Err(SandboxError { restriction, reason });
            }
            Err(reason) => self.missing.push(format!("no {restriction}: {reason}")),
        }
        Ok(())
    }
}

/// What diagnoses read, and nothing else: `/proc` and the limits of control groups.
const READABLE: [&str; 2] = ["/proc", "/sys/fs/cgroup"];

/// Landlock (Linux 5.13; TCP ports from 6.7) on this thread and those it starts from now on.
fn landlock() -> Result<(), String> {
    let abi = ABI::V4;
    let restrict = || {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .create()?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        // What is not mounted has nothing to allow.
        let readable = READABLE.into_iter().filter_map(|path| PathFd::new(path).ok());
        let rule = |folder| Ok::<_, RulesetError>(PathBeneath::new(folder, read));
        ruleset.add_rules(readable.map(rule))?.restrict_self()
    };
    let status = restrict().map_err(|error: RulesetError| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has none (Linux 5.13, lsm=landlock)".into()),
        RulesetStatus::PartiallyEnforced => Err("in force only in part (ports: Linux 6.7)".into()),
        RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// System calls a serving process has no use for, denied with EPERM.
const DENIED: [i64; 18] = [
    libc::SYS_io_uring_setup,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_truncate,
    libc::SYS_mount,
    libc::SYS_bpf,
    libc::SYS_openat2,
];

/// The same on architectures that still have the old calls.
#[cfg(target_arch = "x86_64")]
const DENIED_OLD: [i64; 6] = [
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_OLD: [i64; 0] = [];

/// A filter on all threads: [`DENIED`], and opening a file for anything but reading.
fn seccomp() -> Result<(), String> {
    let program = filter().map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.into_iter().chain(DENIED_OLD).map(|call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, writing(1)?);
    rules.insert(libc::SYS_openat, writing(2)?);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture)?.try_into()
}

/// Matches an open whose flags, argument `index`, have any of the bits that write or create.
fn writing(index: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC]
        .into_iter()
        .map(|bit| {
            let bit = u64::from(bit.cast_unsigned());
            let set = SeccompCmpOp::MaskedEq(bit);
            SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, set, bit)?])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles() {
        assert!(filter().expect("a program").len() > DENIED.len());
    }

    #[test]
    fn off_restricts_nothing_and_auto_reports_what_is_missing() {
        let mut off = Sandbox::new(SandboxMode::Off);
        off.apply("x", || panic!("not asked for")).expect("nothing to do");
        let mut auto = Sandbox::new(SandboxMode::Auto);
        auto.apply("y", || Err("not here".into())).expect("goes on");
        auto.apply("z", || Ok(())).expect("applied");
        assert_eq!(auto.active, ["z"]);
        assert_eq!(auto.missing, ["no y: not here"]);
        let refused = Sandbox::new(SandboxMode::Require).apply("y", || Err("not here".into()));
        assert!(refused.expect_err("required").to_string().contains("y is not to be had"));
    }
}
