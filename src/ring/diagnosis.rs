//! Why io_uring is not available, found by examining the system, and the remedy where this process
//! runs.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;

use crate::sys::host::Host;
use crate::sys::{descriptors, procfs};

/// The likely cause of a refusal and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was found, in a few words.
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
    /// The kernel is gVisor's, not Linux.
    pub gvisor: bool,
    /// `/proc/sys/kernel/io_uring_disabled`: 0 open, 1 privileged, 2 nobody. 0 on a kernel that has
    /// no such setting (before Linux 6.6); `None` where `/proc/sys` is not readable.
    pub io_uring_disabled: Option<u32>,
    /// `Seccomp:` of `/proc/self/status`: 2 means that a filter is active.
    pub seccomp_mode: Option<u32>,
    /// RLIMIT_MEMLOCK in bytes; `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    /// RLIMIT_NOFILE, the soft limit.
    pub nofile: Option<u64>,
    /// What the process runs in.
    pub host: Host,
}

impl Environment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        Self::read_below(Path::new("/"))
    }

    /// Reads it with another root of the file system.
    fn read_below(root: &Path) -> Self {
        let kernel = uname();
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        Self {
            kernel_release: kernel.release().to_string_lossy().into_owned(),
            gvisor: kernel.version().to_bytes() == GVISOR_VERSION,
            io_uring_disabled: io_uring_disabled(&root.join("proc/sys/kernel")),
            seccomp_mode: procfs::field(&status, "Seccomp").and_then(|mode| mode.parse().ok()),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            nofile: descriptors::limit().soft,
            host: Host::read(root, |name| env::var_os(name)),
        }
    }

    fn has_filter(&self) -> bool {
        self.seccomp_mode == Some(2)
    }
}

fn io_uring_disabled(sysctls: &Path) -> Option<u32> {
    match fs::read_to_string(sysctls.join("io_uring_disabled")) {
        Ok(text) => text.trim().parse().ok(),
        Err(_) if sysctls.join("osrelease").exists() => Some(0),
        Err(_) => None,
    }
}

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
        let host = environment.host;
        let everybody = format!("sysctl -w kernel.io_uring_disabled=0{}", on_the_host(host));
        match environment.io_uring_disabled {
            Some(2) => Self::new("denied by the sysctl kernel.io_uring_disabled=2", everybody),
            Some(1) => Self::new(
                "denied by the sysctl kernel.io_uring_disabled=1",
                format!(
                    "run it with CAP_SYS_ADMIN or in the group of kernel.io_uring_group, or \
                     {everybody}"
                ),
            ),
            Some(_) if environment.has_filter() => Self::filtered(host),
            None if environment.has_filter() => Self::new(
                format!(
                    "{}, or by the sysctl kernel.io_uring_disabled (not readable here)",
                    filter(host)
                ),
                format!("{}; or {everybody}", filter_remedy(host)),
            ),
            None => Self::new(
                "denied, perhaps by the sysctl kernel.io_uring_disabled (not readable here)",
                everybody,
            ),
            Some(_) => Self::new(
                "denied by a security module (SELinux, AppArmor) or a virtual machine's policy",
                "look for a denial in the audit log (ausearch -m avc, dmesg)",
            ),
        }
    }

    fn not_there(environment: &Environment) -> Self {
        if environment.gvisor {
            return Self::new(
                "gVisor, which runs this process, does not offer it",
                "use another runtime (docker run --runtime runc)",
            );
        }
        if environment.has_filter() {
            return Self::filtered(environment.host);
        }
        Self::new(
            format!(
                "Linux {} has none: it is older than 5.1 or was built without CONFIG_IO_URING",
                environment.kernel_release
            ),
            "use Linux 6.0 or newer with CONFIG_IO_URING=y",
        )
    }

    fn filtered(host: Host) -> Self {
        Self::new(filter(host), filter_remedy(host))
    }

    fn no_memory(environment: &Environment, locked_bytes: u64) -> Self {
        let limit = environment
            .memlock_bytes
            .map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
        Self::new(
            format!("RLIMIT_MEMLOCK is {limit}, too little for all rings of this user"),
            format!(
                "{}, or use fewer workers or threads; {locked_bytes} bytes must be free for this \
                 ring",
                memlock_remedy(environment.host)
            ),
        )
    }

    fn no_descriptors(environment: &Environment) -> Self {
        let limit = environment.nofile.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        Self::new(
            format!("RLIMIT_NOFILE is {limit}, and a direct-descriptor table may not be larger"),
            "raise it (systemd LimitNOFILE=, ulimit -n) or lower --max-connections",
        )
    }
}

fn on_the_host(host: Host) -> &'static str {
    if host.is_container() { " on the host of this container" } else { "" }
}

/// Which filter denies it.
fn filter(host: Host) -> String {
    format!("denied by {}", host.filter())
}

fn filter_remedy(host: Host) -> &'static str {
    match host {
        Host::Docker => {
            "uring-echo doctor --seccomp-profile >seccomp.json, then docker run --security-opt \
             seccomp=seccomp.json (Docker Desktop before 4.43 denies it whatever the profile)"
        }
        Host::Podman => {
            "uring-echo doctor --seccomp-profile >seccomp.json, then podman run --security-opt \
             seccomp=seccomp.json"
        }
        Host::Kubernetes => {
            "save what uring-echo doctor --seccomp-profile prints as \
             /var/lib/kubelet/seccomp/uring-echo.json on each node, and set in securityContext: \
             seccompProfile: {type: Localhost, localhostProfile: uring-echo.json}"
        }
        Host::Systemd => {
            "systemctl edit the unit: SystemCallFilter=io_uring_setup io_uring_enter \
             io_uring_register (they are in @aio)"
        }
        Host::Container | Host::Plain => {
            "have whoever set the filter allow io_uring_setup, io_uring_enter and \
             io_uring_register; uring-echo doctor --seccomp-profile prints a profile for a \
             container engine"
        }
    }
}

fn memlock_remedy(host: Host) -> &'static str {
    match host {
        Host::Docker => "docker run --ulimit memlock=67108864:67108864",
        Host::Podman => "podman run --ulimit memlock=67108864:67108864",
        Host::Kubernetes => "LimitMEMLOCK=64M in the unit of the node's container runtime",
        Host::Systemd => "systemctl edit the unit: LimitMEMLOCK=64M",
        Host::Container | Host::Plain => "ulimit -l 65536, or /etc/security/limits.conf",
    }
}

/// `uname -v` of gVisor, which claims to be Linux 4.4.0.
const GVISOR_VERSION: &[u8] = b"#1 SMP Sun Jan 10 15:06:54 PST 2016";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno, environment: &Environment) -> Diagnosis {
        Diagnosis::of(&errno.into(), environment, 4096)
    }

    fn filtered(host: Host) -> Environment {
        let (open, filter) = (Some(0), Some(2));
        Environment {
            host,
            io_uring_disabled: open,
            seccomp_mode: filter,
            ..Environment::default()
        }
    }

    /// A root with a sysctl of this value and a filter.
    fn root(io_uring_disabled: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/self")).expect("made");
        fs::create_dir_all(root.path().join("proc/sys/kernel")).expect("made");
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text);
        write("proc/self/status", "Name:\tx\nSeccomp:\t2\n").expect("written");
        write("proc/sys/kernel/osrelease", "6.6.0\n").expect("written");
        if let Some(value) = io_uring_disabled {
            write("proc/sys/kernel/io_uring_disabled", value).expect("written");
        }
        root
    }

    #[test]
    fn a_sysctl_comes_before_a_filter_and_is_named_with_its_value() {
        for (value, cause) in [("2\n", "io_uring_disabled=2"), ("1\n", "io_uring_disabled=1")] {
            let root = root(Some(value));
            let found = of(Errno::PERM, &Environment::read_below(root.path()));
            assert!(found.cause.ends_with(cause), "{found}");
            assert!(found.remedy.contains("sysctl -w kernel.io_uring_disabled=0"), "{found}");
        }
    }

    #[test]
    fn a_filter_is_named_where_the_sysctl_allows_or_the_kernel_has_none() {
        for value in [Some("0\n"), None] {
            let root = root(value);
            let environment = Environment::read_below(root.path());
            assert_eq!(environment.io_uring_disabled, Some(0));
            for errno in [Errno::PERM, Errno::NOSYS] {
                assert!(of(errno, &environment).cause.contains("seccomp"), "{environment:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_ruled_out() {
        let hidden = Environment { io_uring_disabled: None, ..filtered(Host::Docker) };
        let text = of(Errno::PERM, &hidden).to_string();
        assert!(text.contains("not readable") && text.contains("profile, or by"), "{text}");
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(Environment::read_below(root.path()).io_uring_disabled, None);
    }

    #[test]
    fn the_remedy_is_for_where_the_process_runs() {
        for (host, said) in [
            (Host::Docker, "docker run --security-opt"),
            (Host::Podman, "podman run --security-opt"),
            (Host::Kubernetes, "localhostProfile"),
            (Host::Systemd, "SystemCallFilter="),
            (Host::Plain, "whoever set the filter"),
        ] {
            let found = of(Errno::PERM, &filtered(host));
            assert!(found.remedy.contains(said), "{found}");
            assert_eq!(found, of(Errno::NOSYS, &filtered(host)));
            let short = Environment { memlock_bytes: Some(65536), ..filtered(host) };
            let found = of(Errno::NOMEM, &short);
            assert!(found.cause.contains("65536") && found.remedy.contains("4096"), "{found}");
            assert_eq!(found.remedy.contains("docker"), host == Host::Docker, "{found}");
        }
    }

    #[test]
    fn a_kernel_without_it_is_told_from_a_denial() {
        let old = Environment { kernel_release: "4.4.0".to_owned(), ..Environment::default() };
        assert!(of(Errno::NOSYS, &old).cause.contains("Linux 4.4.0 has none"));
        let gvisor = Environment { gvisor: true, ..filtered(Host::Docker) };
        assert!(of(Errno::NOSYS, &gvisor).cause.contains("gVisor"));
        let module = Environment { seccomp_mode: Some(0), ..filtered(Host::Plain) };
        assert!(of(Errno::PERM, &module).cause.contains("SELinux"));
    }
}
