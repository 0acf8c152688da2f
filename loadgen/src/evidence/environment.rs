//! The machine and limits of a run, as far as this process may read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use uring_echo::sys::procfs::{self, field};

use crate::model::environment::{Environment, Limit};
use rustix::process::{Resource, getrlimit};

/// Reads the environment from /proc and /sys.
pub fn read() -> Environment {
    let status = text("/proc/self/status").unwrap_or_default();
    Environment {
        kernel: line("/proc/sys/kernel/osrelease"),
        cpu: text("/proc/cpuinfo").and_then(|text| named(&text, "model name")),
        cpus_used: named(&status, "Cpus_allowed_list"),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
        somaxconn: procfs::somaxconn().map(u64::from),
        memlock: limit(Resource::Memlock),
        nofile: limit(Resource::Nofile),
        seccomp: procfs::seccomp_mode().and_then(seccomp),
        container: container(),
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn line(path: &str) -> Option<String> {
    text(path).map(|t| t.trim().to_owned())
}

fn named(text: &str, name: &str) -> Option<String> {
    field(text, name).map(str::to_owned)
}

fn limit(resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { soft: limit.current, hard: limit.maximum }
}

fn seccomp(mode: u32) -> Option<String> {
    let name = match mode {
        0 => "disabled",
        1 => "strict",
        2 => "filter",
        _ => return None,
    };
    Some(name.to_owned())
}

fn mitigations(folder: &Path) -> Option<BTreeMap<String, String>> {
    let known = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let state = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
        let concerned = state != "Not affected";
        concerned.then(|| (entry.file_name().to_string_lossy().into_owned(), state))
    });
    Some(known.collect())
}

/// Container engines create a marker file at the root, or their name is in the cgroup path.
fn container() -> Option<String> {
    let by_file = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    if let Some((_, engine)) = by_file.into_iter().find(|(path, _)| Path::new(path).exists()) {
        return Some(engine.to_owned());
    }
    engine_of_cgroup(&text("/proc/1/cgroup")?).map(str::to_owned)
}

fn engine_of_cgroup(cgroup: &str) -> Option<&'static str> {
    ["kubepods", "docker", "libpod", "containerd", "lxc"]
        .into_iter()
        .find(|engine| cgroup.contains(engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seccomp_modes_and_container_engines_are_named() {
        assert_eq!(seccomp(2), Some("filter".into()));
        assert_eq!(seccomp(9), None);
        assert_eq!(engine_of_cgroup("0::/system.slice/docker-a1.scope"), Some("docker"));
        assert_eq!(engine_of_cgroup("0::/init.scope"), None);
    }

    #[test]
    fn the_environment_of_this_machine_is_read() {
        let environment = read();
        assert!(environment.kernel.is_some());
        assert!(environment.cpus_used.is_some());
    }
}
