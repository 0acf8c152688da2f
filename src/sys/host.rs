//! What this process runs in, as far as it decides who can lift a restriction.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Who started this process and set its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// A shell, a supervisor, anything that left no mark.
    #[default]
    Plain,
    /// A service of systemd.
    Systemd,
    /// A container of Docker.
    Docker,
    /// A container of podman.
    Podman,
    /// A pod of Kubernetes.
    Kubernetes,
    /// A container of another engine.
    Container,
}

impl Host {
    /// Reads the marks below `root`, which is `/` except in tests, and in the environment.
    #[must_use]
    pub fn read(root: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let cgroup = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let there = |path| root.join(path).exists();
        if variable("KUBERNETES_SERVICE_HOST").is_some() || cgroup.contains("kubepods") {
            Self::Kubernetes
        } else if there("run/.containerenv") {
            Self::Podman
        } else if there(".dockerenv") {
            Self::Docker
        } else if variable("container").is_some() || there("run/systemd/container") {
            Self::Container
        } else if cgroup.lines().any(|line| line.trim_end().ends_with(".service")) {
            Self::Systemd
        } else {
            Self::Plain
        }
    }

    /// The host of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::read(Path::new("/"), |name| env::var_os(name))
    }

    /// Whoever filters this process's system calls, if somebody does.
    #[must_use]
    pub fn filter(self) -> &'static str {
        match self {
            Self::Plain => "a seccomp filter",
            Self::Systemd => "the service's SystemCallFilter=",
            _ => "the container's seccomp profile",
        }
    }

    /// Whether it is a container of any kind.
    #[must_use]
    pub fn is_container(self) -> bool {
        !matches!(self, Self::Plain | Self::Systemd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_who_started_the_process() {
        let unset = |_: &str| None;
        let marked = |path: &str, text: &str| {
            let root = tempfile::tempdir().expect("a folder");
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
            Host::read(root.path(), unset)
        };
        assert_eq!(marked(".dockerenv", ""), Host::Docker);
        assert_eq!(marked("run/.containerenv", "engine=\"podman-4\""), Host::Podman);
        assert_eq!(marked("run/systemd/container", "lxc"), Host::Container);
        assert_eq!(marked("proc/self/cgroup", "0::/kubepods.slice/x\n"), Host::Kubernetes);
        assert_eq!(marked("proc/self/cgroup", "0::/system.slice/e.service\n"), Host::Systemd);
        assert_eq!(marked("proc/self/cgroup", "0::/user.slice/session-1.scope\n"), Host::Plain);
        let pod = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(OsString::new);
        assert_eq!(Host::read(Path::new("/nothing"), pod), Host::Kubernetes);
    }
}
