//! CPU limits of the control groups of this process, of either version (cgroups(7)).
//!
//! The files are opened once and read again through their descriptors, so that a sandbox that
//! denies the file system does not end the reading.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::cgroup::{Folder, Groups, Setting};

const CPU_MAX: Setting = Setting { v1: "cpu.cfs_quota_us", v2: "cpu.max" };
const ACCOUNTING: Setting = Setting { v1: "cpuacct.usage", v2: "cpu.stat" };

/// What the files of one group say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// Quota over period in 1/1000 of a core; `None`: no limit.
    pub millicores: Option<u64>,
    /// Periods in which the group was throttled, since it exists.
    pub throttled: u64,
    /// CPU time used by the group, if that is readable, in nanoseconds.
    pub used_ns: Option<u64>,
}

/// The group of this process and its ancestors, as far as they are visible: a container sees its
/// own and those below it.
#[derive(Debug)]
pub struct CpuGroups {
    root: PathBuf,
    own: Option<File>,
    membership: String,
    groups: Vec<Group>,
}

/// Open files of one group.
#[derive(Debug)]
enum Group {
    V1 { quota: File, period: File, stat: Option<File>, usage: Option<File> },
    V2 { max: File, stat: Option<File> },
}

impl CpuGroups {
    /// Opens what is there below `root`, which is `/` except in tests.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let own = File::open(root.join("proc/self/cgroup")).ok();
        let membership = own.as_ref().and_then(read).unwrap_or_default();
        Self { root: root.to_owned(), own, membership, groups: open_groups(root) }
    }

    /// Follows a move of the process to another group. False if it has moved where its limits
    /// cannot be read.
    pub fn follow(&mut self) -> bool {
        let now = self.own.as_ref().and_then(read).unwrap_or_default();
        if now == self.membership {
            return true;
        }
        let moved = Self::open(&self.root);
        let is_readable = !moved.groups.is_empty() && moved.membership == now;
        if is_readable {
            *self = moved;
        }
        is_readable
    }

    /// Reads the files of every group that has a limit or could get one, the innermost first.
    #[must_use]
    pub fn read(&self) -> Vec<CpuUse> {
        self.groups.iter().map(Group::read).collect()
    }
}

impl Group {
    fn v1(folder: &Path, accounting: Option<&Path>) -> Option<Self> {
        Some(Self::V1 {
            quota: File::open(folder.join("cpu.cfs_quota_us")).ok()?,
            period: File::open(folder.join("cpu.cfs_period_us")).ok()?,
            stat: File::open(folder.join("cpu.stat")).ok(),
            usage: accounting.and_then(|path| File::open(path.join("cpuacct.usage")).ok()),
        })
    }

    fn v2(folder: &Path) -> Option<Self> {
        let max = File::open(folder.join("cpu.max")).ok()?;
        Some(Self::V2 { max, stat: File::open(folder.join("cpu.stat")).ok() })
    }

    fn read(&self) -> CpuUse {
        match self {
            Self::V1 { quota, period, stat, usage } => {
                let stat = stat.as_ref().and_then(read).unwrap_or_default();
                CpuUse {
                    millicores: limit(number(quota), number(period)),
                    throttled: stat_field(&stat, "nr_throttled").unwrap_or(0),
                    used_ns: usage.as_ref().and_then(number),
                }
            }
            Self::V2 { max, stat } => {
                let stat = stat.as_ref().and_then(read).unwrap_or_default();
                let max = read(max).unwrap_or_default();
                let mut fields = max.split_whitespace().map(|field| field.parse().ok());
                CpuUse {
                    millicores: limit(fields.next().flatten(), fields.next().flatten()),
                    throttled: stat_field(&stat, "nr_throttled").unwrap_or(0),
                    used_ns: stat_field(&stat, "usage_usec").map(|us| us.saturating_mul(1000)),
                }
            }
        }
    }
}

/// The text of a file, from its beginning.
fn read(file: &File) -> Option<String> {
    let mut text = [0; 4096];
    let len = file.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..len]).into_owned())
}

fn number(file: &File) -> Option<u64> {
    read(file)?.trim().parse().ok()
}

/// In 1/1000 of a core. A quota of `max` or -1, which are not numbers here, is no limit.
fn limit(quota: Option<u64>, period: Option<u64>) -> Option<u64> {
    quota?.saturating_mul(1000).checked_div(period?)
}

/// The value of the line `name value`.
fn stat_field(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().filter_map(|line| line.split_once(' '));
    fields.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

fn open_groups(root: &Path) -> Vec<Group> {
    let groups = Groups::read_below(root);
    let accounting: Vec<_> =
        groups.folders(ACCOUNTING).into_iter().filter(|f| !f.unified).collect();
    let folders = groups.folders(CPU_MAX).into_iter().enumerate();
    let open = |(index, folder): (usize, Folder)| match folder.unified {
        true => Group::v2(&folder.path),
        false => Group::v1(&folder.path, accounting.get(index).map(|folder| &*folder.path)),
    };
    folders.filter_map(open).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A root folder with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(path, text)| write(root.path(), path, text));
        root
    }

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, text).expect("written");
    }

    const V2_MOUNT: &str = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn every_ancestor_of_version_2_is_read_and_read_again() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.stat", "usage_usec 7\nnr_throttled 0\n"),
            ("sys/fs/cgroup/a/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/a/cpu.stat", "usage_usec 12\nnr_periods 9\nnr_throttled 3\n"),
        ]);
        let groups = CpuGroups::open(root.path());
        let inner = CpuUse { millicores: None, throttled: 0, used_ns: Some(7_000) };
        let outer = CpuUse { millicores: Some(500), throttled: 3, used_ns: Some(12_000) };
        assert_eq!(groups.read(), [inner, outer]);
        write(root.path(), "sys/fs/cgroup/a/b/cpu.max", "20000 100000\n");
        assert_eq!(groups.read()[0].millicores, Some(200));
    }

    #[test]
    fn version_1_is_read_with_its_accounting() {
        let mounts = "33 31 0:30 /docker/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
            34 31 0:31 /docker/x /sys/fs/cgroup/cpuacct ro - cgroup cgroup rw,cpuacct\n";
        let root = machine(&[
            ("proc/self/cgroup", "2:cpuacct:/docker/x\n1:cpu:/docker/x\n0::/\n"),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 34\nnr_throttled 9\nthrottled_time 1\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.usage", "123\n"),
        ]);
        let groups = CpuGroups::open(root.path());
        let use_ = CpuUse { millicores: Some(500), throttled: 9, used_ns: Some(123) };
        assert_eq!(groups.read(), [use_]);
        write(root.path(), "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        assert_eq!(groups.read()[0].millicores, None);
    }

    #[test]
    fn a_move_to_another_group_is_followed() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/b/cpu.max", "10000 100000\n"),
        ]);
        let mut groups = CpuGroups::open(root.path());
        assert!(groups.follow());
        write(root.path(), "proc/self/cgroup", "0::/b\n");
        assert!(groups.follow());
        assert_eq!(groups.read()[0].millicores, Some(100));
        write(root.path(), "proc/self/cgroup", "0::/hidden\n");
        assert!(!groups.follow(), "its limits are unknown");
    }

    #[test]
    fn where_nothing_is_mounted_there_are_no_groups() {
        let root = machine(&[]);
        let mut groups = CpuGroups::open(root.path());
        assert!(groups.follow() && groups.read().is_empty());
    }
}
