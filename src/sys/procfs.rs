//! Fields of files under `/proc` (proc(5)). A file or field that cannot be read is `None`, because
//! what is mounted and visible differs between machines, containers and users.

use std::fs;
use std::io;
use std::str::FromStr;

use crate::values::{CpuList, cpu_list};

/// The single value that a file consists of, as most under `/proc/sys` do.
#[must_use]
pub fn value<T: FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The text of a sysctl(8) setting, named as below `/proc/sys`: `net/core/somaxconn`.
#[must_use]
pub fn sysctl(name: &str) -> Option<String> {
    value(&format!("/proc/sys/{name}"))
}

/// A sysctl(8) setting that is a number.
#[must_use]
pub fn sysctl_number<T: FromStr>(name: &str) -> Option<T> {
    sysctl(name)?.parse().ok()
}

/// `net.core.somaxconn`: the upper bound of every listen(2) backlog in this network namespace.
#[must_use]
pub fn somaxconn() -> Option<u32> {
    sysctl_number("net/core/somaxconn")
}

/// The value of the first line `name: value`, as in `/proc/PID/status`, `meminfo` and `cpuinfo`.
#[must_use]
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(key, _)| key.trim() == name);
    named.next().map(|(_, value)| value.trim())
}

/// A field of `/proc/self/status` (proc_pid_status(5)).
#[must_use]
pub fn own_status(name: &str) -> Option<String> {
    field(&fs::read_to_string("/proc/self/status").ok()?, name).map(str::to_owned)
}

/// `Seccomp:` of `/proc/self/status`: 0 is off, 1 strict, 2 means that a filter is active.
#[must_use]
pub fn seccomp_mode() -> Option<u32> {
    own_status("Seccomp")?.parse().ok()
}

/// The CPUs that a thread may run on: `Cpus_allowed_list:` of the text of its `status` file.
#[must_use]
pub fn allowed_cpus(status: &str) -> Option<CpuList> {
    cpu_list(field(status, "Cpus_allowed_list")?).ok()
}

/// The field `name` in KiB of a file such as `/proc/meminfo` or `/proc/PID/smaps_rollup`.
///
/// # Errors
/// What reading the file failed with; `InvalidData` if it has no such field.
pub fn kib(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let number = field(&text, name).and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tx\nSeccomp_filters:\t3\nSeccomp:\t2\nCpus_allowed_list:\t0-1,4\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "Cpus"), None);
        assert_eq!(allowed_cpus(status).expect("a list").0, [0, 1, 4]);
        assert_eq!(allowed_cpus("Name:\tx\n"), None);
    }

    #[test]
    fn this_machine_has_what_every_linux_has() {
        assert!(somaxconn().is_some() && sysctl("kernel/osrelease").is_some());
        assert!(seccomp_mode().is_some() && own_status("Cpus_allowed_list").is_some());
        assert!(kib("/proc/meminfo", "MemTotal").expect("a field") > 1000);
        let missing = kib("/proc/meminfo", "None").expect_err("no such field");
        assert_eq!(missing.kind(), io::ErrorKind::InvalidData);
        assert_eq!(value::<u32>("/proc/nothing"), None);
    }
}
