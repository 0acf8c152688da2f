//! Where a run happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The machine and its limits; absent where unreadable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Release of the kernel (`uname -r`).
    pub kernel: Option<String>,
    /// Model of the first CPU.
    pub cpu: Option<String>,
    /// CPUs this process may use, in cpulist form (cpuset(7)).
    pub cpus_used: Option<String>,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Vulnerabilities that concern this CPU, and what the kernel does about each.
    pub mitigations: Option<BTreeMap<String, String>>,
    /// `net.core.somaxconn`: upper bound of every listen backlog.
    pub somaxconn: Option<u64>,
    /// Memory that may be locked, bytes.
    pub memlock: Limit,
    /// Open descriptors.
    pub nofile: Limit,
    /// `disabled`, `strict` or `filter` (proc(5), `Seccomp`).
    pub seccomp: Option<String>,
    /// Which engine's container this is; absent outside of one.
    pub container: Option<String>,
}

/// A resource limit; absent is unlimited (getrlimit(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is enforced.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}
