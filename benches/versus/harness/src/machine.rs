//! Where it was measured and with what.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::builds::workspace;

const CONNTRACK: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Facts that a reader needs to judge the numbers, and none that tells whose machine it is.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) command: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory: String,
    pub(crate) virtual_machine: bool,
    pub(crate) network: String,
    pub(crate) conntrack: String,
    pub(crate) server_cpu: usize,
    pub(crate) client_cpu: usize,
    pub(crate) rounds: usize,
    /// CPUs that were busy with anything else while it was measured.
    pub(crate) other_cpus: f64,
    pub(crate) limits: String,
    pub(crate) syscalls: &'static str,
    pub(crate) rust: String,
}

/// What the caller knows.
pub(crate) struct Setting {
    pub(crate) network: String,
    pub(crate) server_cpu: usize,
    pub(crate) client_cpu: usize,
    pub(crate) rounds: usize,
    pub(crate) other_cpus: f64,
    pub(crate) syscalls: &'static str,
}

impl Machine {
    pub(crate) fn look(setting: Setting) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let args: Vec<String> = std::env::args().skip(1).collect();
        Self {
            command: format!("versus {}", args.join(" ")).trim_end().to_owned(),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            date: said("date", &["-u", "+%Y-%m-%d"]),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpus: thread::available_parallelism().map_or(1, Into::into),
            memory: field(&meminfo, "MemTotal").unwrap_or("unknown").to_owned(),
            virtual_machine: cpuinfo.contains(" hypervisor"),
            network: setting.network,
            conntrack: conntrack(),
            server_cpu: setting.server_cpu,
            client_cpu: setting.client_cpu,
            rounds: setting.rounds,
            other_cpus: setting.other_cpus,
            limits: limits(),
            syscalls: setting.syscalls,
            rust: said("rustc", &["--version"]),
        }
    }

    /// As lines of a list: name, value.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let kind = if self.virtual_machine { "virtual" } else { "physical" };
        let cpus = format!("{}, {} CPUs, {}, {kind} machine", self.cpu, self.cpus, self.memory);
        let pinned = format!("servers on CPU {}, clients on {}", self.server_cpu, self.client_cpu);
        vec![
            ("command", format!("`{}`", self.command)),
            ("commit, date", format!("{}, {}", self.commit, self.date)),
            ("kernel", self.kernel.clone()),
            ("machine", cpus),
            ("pinning", pinned),
            ("network", self.network.clone()),
            ("connection tracking", self.conntrack.clone()),
            ("limits", self.limits.clone()),
            ("compiler", self.rust.clone()),
            ("system calls", self.syscalls.to_owned()),
            ("rounds", self.rounds.to_string()),
            ("other load", format!("{:.2} CPUs on average meanwhile", self.other_cpus)),
        ]
    }
}

/// Entries that connection tracking holds: after a load, zero means that it does not look.
fn conntrack() -> String {
    match fs::read_to_string(CONNTRACK) {
        Ok(count) if count.trim() == "0" => "tracks nothing here".to_owned(),
        Ok(count) => format!("ACTIVE, {} entries: part of every connection's cost", count.trim()),
        Err(_) => "not loaded".to_owned(),
    }
}

fn limits() -> String {
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |it| it.to_string());
    let files = getrlimit(Resource::Nofile).current;
    let locked = getrlimit(Resource::Memlock).current;
    let queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    format!(
        "{} descriptors, {} bytes locked, somaxconn {}",
        text(files),
        text(locked),
        queue.trim()
    )
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(workspace()).output();
    let said = output.ok().filter(|output| output.status.success());
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "unknown".to_owned())
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Versions by package name, from a Cargo.lock; of several the last, which is the newest.
pub(crate) fn locked_versions(lock: &str) -> BTreeMap<String, String> {
    let quoted = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim_matches(['"', ' ', '=']).to_owned())
    };
    let mut versions = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(found) = quoted(line, "name") {
            name = Some(found);
        } else if let Some(version) = quoted(line, "version") {
            versions.extend(name.take().map(|name| (name, version)));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"mio\"\nversion = \"0.8.11\"\n\
                    \n[[package]]\nname = \"mio\"\nversion = \"1.2.5\"\n";
        assert_eq!(locked_versions(lock).get("mio").map(String::as_str), Some("1.2.5"));
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(field("processor\t: 0\nmodel name\t: X 1\n", "model name"), Some("X 1"));
    }
}
