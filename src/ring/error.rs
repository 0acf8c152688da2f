//! Errors of a ring, with the likely cause found by examining the system.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::sys::{descriptors, procfs};

/// A ring that cannot be set up or has failed for good.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A set-up step was refused.
    #[error("{step} failed: {source}\n{diagnosis}")]
    Setup {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
        /// The likely cause, and what to do.
        diagnosis: Diagnosis,
    },
    /// The kernel has io_uring but lacks an operation the engine cannot do without.
    #[error("Linux {release} has io_uring but no {what}, which needs Linux {since} or newer")]
    TooOld {
        /// The running kernel.
        release: String,
        /// What is missing.
        what: &'static str,
        /// The first kernel that has it.
        since: &'static str,
    },
    /// `io_uring_enter` failed in a way that waiting does not mend.
    #[error("io_uring_enter failed: {0}")]
    Enter(#[source] io::Error),
    /// The kernel would not take a submission although the queue had just been submitted.
    #[error("the submission queue stayed full after a submission")]
    QueueStuck,
}

impl RingError {
    /// A step of a set-up that the system refused, with what the ring would lock.
    pub(crate) fn setup(step: &'static str, source: io::Error, locked_bytes: u64) -> Self {
        let diagnosis = Diagnosis::of(&source, &Environment::read(), locked_bytes);
        Self::Setup { step, source, diagnosis }
    }
}

/// The likely cause of a refusal and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was found.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  likely cause: {}\n  remedy: {}", self.cause, self.remedy)
    }
}

/// What decides on this machine whether this process may use io_uring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `uname -r`.
    pub kernel_release: String,
    /// `/proc/sys/kernel/io_uring_disabled` (Linux 6.6): 0 open, 1 privileged, 2 nobody.
    pub io_uring_disabled: Option<u32>,
    /// `Seccomp:` of `/proc/self/status`: 2 means that a filter is active.
    pub seccomp_mode: Option<u32>,
    /// RLIMIT_MEMLOCK in bytes; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    /// RLIMIT_NOFILE, the soft limit.
    pub nofile: Option<u64>,
}

impl Environment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring_disabled: procfs::sysctl_number("kernel/io_uring_disabled"),
            seccomp_mode: procfs::seccomp_mode(),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            nofile: descriptors::limit().soft,
        }
    }
}

const SECCOMP: &str = "the seccomp filter of this container or service blocks io_uring";
const SECCOMP_REMEDY: &str = "allow io_uring_setup, io_uring_enter and io_uring_register: \
     docker run --security-opt seccomp=docker/seccomp.json (Docker Desktop before 4.43 blocks it \
     whatever the profile)";

impl Diagnosis {
    /// The likely cause of `error`, given what was found and what the ring would lock.
    #[must_use]
    pub fn of(error: &io::Error, environment: &Environment, locked_bytes: u64) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::not_permitted(environment),
            Some(Errno::NOSYS) => Self::not_there(environment),
            Some(Errno::NOMEM) => Self::no_memory(environment, locked_bytes),
            Some(Errno::MFILE | Errno::NFILE) => Self::no_descriptors(environment),
            Some(Errno::INVAL) => Self::new(
                format!("Linux {} does not know this request", environment.kernel_release),
                "use Linux 6.0 or newer",
            ),
            _ => Self::new("unknown", "see io_uring_setup(2) for this error"),
        }
    }

    fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }

    fn not_permitted(environment: &Environment) -> Self {
        match (environment.io_uring_disabled, environment.seccomp_mode) {
            (Some(2), _) => Self::new(
                "kernel.io_uring_disabled is 2: nobody may use io_uring",
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (Some(1), _) => Self::new(
                "kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN or one group may use io_uring",
                "put this user's group id in kernel.io_uring_group, or \
                 sysctl -w kernel.io_uring_disabled=0",
            ),
            (Some(_), Some(2)) => Self::new(SECCOMP, SECCOMP_REMEDY),
            (None, _) => Self::new(
                format!("{SECCOMP}, or kernel.io_uring_disabled (not readable here) forbids it"),
                format!("{SECCOMP_REMEDY}; or sysctl -w kernel.io_uring_disabled=0"),
            ),
            (Some(_), _) => Self::new(
                "a security module (SELinux, AppArmor) or a virtual machine's policy",
                "look for a denial in the audit log (ausearch -m avc, dmesg)",
            ),
        }
    }

    fn not_there(environment: &Environment) -> Self {
        if environment.seccomp_mode == Some(2) {
            return Self::new(
                format!("{SECCOMP} (podman and CRI-O answer ENOSYS)"),
                SECCOMP_REMEDY,
            );
        }
        Self::new(
            format!(
                "Linux {} has no io_uring: older than 5.1, built without CONFIG_IO_URING, or \
                 not Linux at all (gVisor)",
                environment.kernel_release
            ),
            "use Linux 6.0 or newer with CONFIG_IO_URING=y",
        )
    }

    fn no_memory(environment: &Environment, locked_bytes: u64) -> Self {
        let limit = environment
            .memlock_bytes
            .map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
        Self::new(
            format!(
                "RLIMIT_MEMLOCK is {limit}, this ring locks {locked_bytes} bytes, and every ring \
                 of this user counts against it (Linux 6.14 and newer)"
            ),
            format!(
                "raise it (systemd LimitMEMLOCK=64M, docker --ulimit memlock=67108864, ulimit -l) \
                 or use fewer workers; at least {locked_bytes} bytes must be free"
            ),
        )
    }

    fn no_descriptors(environment: &Environment) -> Self {
        let limit = environment.nofile.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        Self::new(
            format!("RLIMIT_NOFILE is {limit}; a direct-descriptor table may not be larger"),
            "raise it (systemd LimitNOFILE=, ulimit -n) or lower --max-connections",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(errno: Errno, environment: &Environment) -> String {
        Diagnosis::of(&errno.into(), environment, 4096).to_string()
    }

    #[test]
    fn a_cause_is_named_only_after_looking() {
        let sysctl = Environment {
            io_uring_disabled: Some(2),
            seccomp_mode: Some(2),
            ..Environment::default()
        };
        assert!(cause(Errno::PERM, &sysctl).contains("io_uring_disabled is 2"));
        let filter = Environment {
            io_uring_disabled: Some(0),
            seccomp_mode: Some(2),
            ..Environment::default()
        };
        assert!(cause(Errno::PERM, &filter).contains("seccomp filter"));
        assert!(cause(Errno::NOSYS, &filter).contains("seccomp filter"));
        let hidden = Environment { seccomp_mode: Some(0), ..Environment::default() };
        assert!(cause(Errno::PERM, &hidden).contains("not readable"));
        let old = Environment { kernel_release: "4.4.0".to_owned(), ..Environment::default() };
        assert!(cause(Errno::NOSYS, &old).contains("4.4.0"));
    }

    #[test]
    fn memlock_names_the_bytes_needed() {
        let environment = Environment { memlock_bytes: Some(65536), ..Environment::default() };
        let text = cause(Errno::NOMEM, &environment);
        assert!(text.contains("65536") && text.contains("4096"), "{text}");
    }
}
