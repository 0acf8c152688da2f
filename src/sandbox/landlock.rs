//! Landlock: no file system but what diagnoses read, no TCP port, and, as far as the kernel has it,
//! no devices' ioctls, no signals to others and no abstract Unix sockets of others.

use std::fs;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

use super::denial;

/// What may be read: `/proc` and the limits of control groups.
const READABLE: [&str; 2] = ["/proc", "/sys/fs/cgroup"];
/// Scopes (Linux 6.12) and everything before them.
const BEST: ABI = ABI::V6;
/// TCP ports (Linux 6.7): less than this is not what is asked for.
const LEAST: ABI = ABI::V4;

/// Restricts this thread and those that it starts from now on. Returns what the kernel lacks of it.
pub(super) fn restrict() -> Result<Option<String>, String> {
    let restricted = ruleset().map_err(|error| error.to_string())?;
    match restricted {
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= BEST => Ok(None),
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= LEAST => {
            let less = "landlock without scopes for signals and abstract sockets (Linux 6.12)";
            Ok(Some(less.to_owned()))
        }
        LandlockStatus::Available { .. } => Err("in force only in part (ports: Linux 6.7)".into()),
        LandlockStatus::NotEnabled => Err("it is switched off (boot with lsm=landlock)".into()),
        LandlockStatus::NotImplemented => Err(absent()),
    }
}

fn ruleset() -> Result<LandlockStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(BEST))?
        .handle_access(AccessNet::from_all(BEST))?
        .scope(Scope::from_all(BEST))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // What is not mounted has nothing to allow.
    let readable = READABLE.into_iter().filter_map(|path| PathFd::new(path).ok());
    let rule = |folder| Ok::<_, RulesetError>(PathBeneath::new(folder, read));
    let status = ruleset.add_rules(readable.map(rule))?.restrict_self()?;
    Ok(status.landlock)
}

/// The kernel has none, or a filter says that it has none.
fn absent() -> String {
    let none = "this kernel has none (Linux 5.13, lsm=landlock)";
    let modules = fs::read_to_string("/sys/kernel/security/lsm").ok();
    match (denial::active_filter(), modules.map(|modules| modules.contains("landlock"))) {
        (Some(filter), Some(true)) => filter.to_string(),
        (Some(filter), None) => format!("{filter}; or {none}"),
        (Some(_), Some(false)) | (None, _) => none.to_owned(),
    }
}
