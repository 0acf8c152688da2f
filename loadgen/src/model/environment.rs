//! The machine on which a run took place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The machine and its limits; a value that cannot be read is absent.
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
    /// CPU vulnerabilities that affect this machine, and the kernel's mitigation of each.
    pub mitigations: Option<BTreeMap<String, String>>,
    /// `net.core.somaxconn`: upper bound of every listen backlog.
    pub somaxconn: Option<u64>,
    /// Limit of locked memory, bytes.
    pub memlock: Limit,
    /// Limit of open descriptors.
    pub nofile: Limit,
    /// `disabled`, `strict` or `filter` (proc(5), `Seccomp`).
    pub seccomp: Option<String>,
    /// The container engine; absent outside a container.
    pub container: Option<String>,
}

/// A resource limit; absent is unlimited (getrlimit(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The enforced limit.
    pub soft: Option<u64>,
    /// The value to which the process may raise it.
    pub hard: Option<u64>,
}
