//! How often the CPU quota of a process's control groups stopped it (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::evidence::Throttling;

/// The `cpu.stat` files of the groups that a process is in, with their first readings.
#[derive(Debug)]
pub(super) struct QuotaMeter {
    groups: Vec<(PathBuf, Throttling)>,
}

impl QuotaMeter {
    /// Takes the first readings. Without a group that can be read there is no evidence.
    pub(super) fn start(pid: u32) -> Self {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let files = stat_files(&membership, Path::new("/sys/fs/cgroup"));
        let read = |file: PathBuf| read(&file).map(|first| (file, first));
        Self { groups: files.into_iter().filter_map(read).collect() }
    }

    /// The group that was stopped most often since; `None` without a group.
    pub(super) fn since_begin(&self) -> Option<Throttling> {
        let grown = self.groups.iter().filter_map(|(file, first)| {
            let now = read(file)?;
            Some(Throttling {
                periods: now.periods.saturating_sub(first.periods),
                stopped_ns: now.stopped_ns.saturating_sub(first.stopped_ns),
            })
        });
        grown.max_by_key(|throttling| throttling.periods)
    }
}

/// Of the group and its ancestors, in either version. In a container the path may be that of the
/// host; the mount then shows the container's own group as its root.
fn stat_files(membership: &str, mount: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let roots: &[&str] = match controllers {
            "" => &["", "unified"],
            list if list.split(',').any(|name| name == "cpu") => &["cpu", "cpu,cpuacct"],
            _ => continue,
        };
        for root in roots {
            let group = Path::new(path.trim_start_matches('/'));
            let groups = group.ancestors().map(|group| mount.join(root).join(group));
            files.extend(groups.map(|group| group.join("cpu.stat")));
        }
    }
    files
}

/// Version 1 has nanoseconds (`throttled_time`), version 2 microseconds (`throttled_usec`).
fn read(file: &Path) -> Option<Throttling> {
    parse(&fs::read_to_string(file).ok()?)
}

fn parse(stat: &str) -> Option<Throttling> {
    let number = |name: &str| {
        let mut fields = stat.lines().filter_map(|line| line.split_once(' '));
        fields.find(|(key, _)| *key == name)?.1.trim().parse::<u64>().ok()
    };
    let micros = || number("throttled_usec").map(|micros| micros.saturating_mul(1000));
    let stopped_ns = number("throttled_time").or_else(micros)?;
    Some(Throttling { periods: number("nr_throttled")?, stopped_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cpu_stat_are_read() {
        let v1 = "nr_periods 9\nnr_throttled 4\nthrottled_time 70000\n";
        let v2 = "usage_usec 1\nnr_periods 9\nnr_throttled 4\nthrottled_usec 70\n";
        let expected = Some(Throttling { periods: 4, stopped_ns: 70_000 });
        assert_eq!((parse(v1), parse(v2)), (expected, expected));
        assert_eq!(parse("usage_usec 1\n"), None, "the root has no quota");
    }

    #[test]
    fn the_groups_of_a_process_and_their_ancestors_are_found() {
        let files = |membership| {
            let files = stat_files(membership, Path::new("/m"));
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        let v2 = files("0::/a/b\n");
        assert_eq!(v2[..3], ["/m/a/b/cpu.stat", "/m/a/cpu.stat", "/m/cpu.stat"]);
        let v1 = files("4:memory:/x\n3:cpu,cpuacct:/a\n");
        assert!(v1.contains(&"/m/cpu/a/cpu.stat".into()) && !v1.iter().any(|f| f.contains("x")));
    }

    #[test]
    fn growth_counts_and_the_most_throttled_group_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let group = |name: &str, periods: u64| {
            let file = folder.path().join(name);
            let text = format!("nr_throttled {periods}\nthrottled_usec {periods}\n");
            fs::write(&file, text).unwrap();
            file
        };
        let start = |name| (group(name, 5), Throttling { periods: 5, stopped_ns: 5_000 });
        let meter = QuotaMeter { groups: vec![start("outer"), start("inner")] };
        group("inner", 8);
        let expected = Throttling { periods: 3, stopped_ns: 3_000 };
        assert_eq!(meter.since_begin(), Some(expected));
        assert_eq!(QuotaMeter { groups: Vec::new() }.since_begin(), None);
    }
}
