//! What the process gives up once it serves: everything it will not need again.
//!
//! Three fences, each for what the others cannot see. The rings are restricted when they are made
//! (`src/ring/setup.rs`): a seccomp filter does not see what a ring does. Landlock takes away the
//! file system and every TCP port; it goes with the threads that are started after it. The seccomp
//! filter comes last, when all rings exist, and takes away making more of them, starting programs
//! and writing files, for all threads at once.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Whether to fence the process in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// As far as this kernel goes; what is missing is logged.
    Auto,
    /// Not at all.
    Off,
    /// Wholly, or do not start.
    Require,
}

/// A fence that could not be put up although it was required.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox require: {fence} is not to be had here: {reason}")]
pub struct SandboxError {
    /// Which one.
    pub fence: &'static str,
    /// What the system said.
    pub reason: String,
}

/// What was put up and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fences {
    /// In force.
    pub active: Vec<&'static str>,
    /// Not to be had, with the reason.
    pub missing: Vec<String>,
}

impl Sandbox {
    /// Before workers start, after listeners are bound: no new privileges, no file system but
    /// `/proc` to read (diagnoses need it), no TCP port to bind or connect to.
    ///
    /// # Errors
    /// Under `require`, the first fence that is not to be had.
    pub fn before_workers(self, fences: &mut Fences) -> Result<(), SandboxError> {
        self.put_up(fences, "no_new_privs", || {
            rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
        })?;
        self.put_up(fences, "landlock", landlock)
    }

    /// After every ring exists: no more rings, no programs, no files to write.
    ///
    /// # Errors
    /// Under `require`, if the filter cannot be installed.
    pub fn when_ready(self, fences: &mut Fences) -> Result<(), SandboxError> {
        self.put_up(fences, "seccomp", seccomp)
    }

    fn put_up(
        self,
        fences: &mut Fences,
        fence: &'static str,
        put_up: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), SandboxError> {
        if self == Self::Off {
            return Ok(());
        }
        match put_up() {
            Ok(()) => fences.active.push(fence),
            Err(reason) if self == Self::Require => return Err(SandboxError { fence, reason }),
            Err(reason) => fences.missing.push(format!("no {fence}: {reason}")),
        }
        Ok(())
    }
}

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
        let ruleset = match PathFd::new("/proc") {
            Ok(proc) => ruleset.add_rule(PathBeneath::new(proc, read))?,
            // Not mounted: nothing to allow.
            Err(_) => ruleset,
        };
        ruleset.restrict_self()
    };
    let status = restrict().map_err(|error: landlock::RulesetError| error.to_string())?;
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
    fn off_puts_up_nothing_and_auto_tells_what_is_missing() {
        let mut fences = Fences::default();
        Sandbox::Off.put_up(&mut fences, "x", || panic!("not asked for")).expect("nothing to do");
        Sandbox::Auto.put_up(&mut fences, "y", || Err("not here".into())).expect("goes on");
        Sandbox::Auto.put_up(&mut fences, "z", || Ok(())).expect("up");
        assert_eq!(fences.active, ["z"]);
        assert_eq!(fences.missing, ["no y: not here"]);
        let refused = Sandbox::Require.put_up(&mut fences, "y", || Err("not here".into()));
        assert!(refused.expect_err("required").to_string().contains("y is not to be had"));
    }
}
