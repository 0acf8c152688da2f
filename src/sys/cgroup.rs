//! The control groups that this process is in (cgroups(7)), of version 1, 2 or both. A limit of any
//! ancestor applies too.

use std::fs;
use std::path::{Path, PathBuf};

/// A setting, by its file's name in each version; the controller is the part before the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// In a hierarchy of version 1.
    pub v1: &'static str,
    /// In the unified hierarchy of version 2.
    pub v2: &'static str,
}

/// The most threads of a group and its descendants.
pub const PIDS_MAX: Setting = Setting { v1: "pids.max", v2: "pids.max" };
/// The most memory of a group and its descendants, in bytes.
pub const MEMORY_MAX: Setting = Setting { v1: "memory.limit_in_bytes", v2: "memory.max" };

/// Version 1 says this, rounded down to a page, where there is no limit.
const UNLIMITED_V1: u64 = i64::MAX as u64 & !0xffff;

/// The number that a group sets, and the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The file.
    pub file: PathBuf,
    /// Its value.
    pub value: u64,
}

/// The folder of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// It is of version 2.
    pub(super) unified: bool,
}

/// The groups of this process: a folder in each mounted hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Groups(Vec<Group>);

#[derive(Clone, Debug)]
struct Group {
    /// Empty for the unified hierarchy.
    controllers: Vec<String>,
    mount_point: PathBuf,
    folder: PathBuf,
}

impl Groups {
    /// Reads which groups this process is in; none where `/proc` or no hierarchy is mounted.
    #[must_use]
    pub fn read() -> Self {
        Self::read_below(Path::new("/"))
    }

    pub(super) fn read_below(root: &Path) -> Self {
        let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mounts = read("proc/self/mountinfo");
        let own = read("proc/self/cgroup");
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        let groups = own.lines().filter_map(|line| Group::parse(line, &mounts, root));
        Self(groups.collect())
    }

    /// The numbers that this process's group and its visible ancestors set, its own first. A group
    /// without a limit sets none.
    #[must_use]
    pub fn limits(&self, setting: Setting) -> Vec<Limit> {
        let name = |folder: &Folder| if folder.unified { setting.v2 } else { setting.v1 };
        let folders = self.folders(setting).into_iter();
        folders.filter_map(|folder| Limit::read(folder.path.join(name(&folder)))).collect()
    }

    /// The memory that this process's group and its visible ancestors leave, in bytes: each limit
    /// without what is used and cannot be dropped at once (the inactive page cache can).
    #[must_use]
    pub fn memory_left(&self) -> Vec<Limit> {
        let left = |Limit { file, value }| {
            let used = used_memory(file.parent()?)?;
            Some(Limit { file, value: value.saturating_sub(used) })
        };
        self.limits(MEMORY_MAX).into_iter().filter_map(left).collect()
    }

    /// Where `setting` would be: this process's group and its visible ancestors, its own first.
    pub(super) fn folders(&self, setting: Setting) -> Vec<Folder> {
        let mut folders = Vec::new();
        for group in self.0.iter().filter(|group| group.file_name(setting).is_some()) {
            let unified = group.controllers.is_empty();
            let up = group.folder.ancestors();
            let visible = up.take_while(|path| path.starts_with(&group.mount_point));
            folders.extend(visible.map(|path| Folder { path: path.to_owned(), unified }));
        }
        folders
    }

    /// The smallest of [`Self::limits`].
    #[must_use]
    pub fn tightest(&self, setting: Setting) -> Option<Limit> {
        self.limits(setting).into_iter().min_by_key(|limit| limit.value)
    }
}

/// What the group of `folder` uses, of either version.
fn used_memory(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let used = read("memory.current").or_else(|| read("memory.usage_in_bytes"))?;
    let stat = read("memory.stat").unwrap_or_default();
    let field = |name: &str| {
        let mut values = stat.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next()?.trim().parse::<u64>().ok()
    };
    let cache = field("total_inactive_file").or_else(|| field("inactive_file"));
    Some(used.trim().parse::<u64>().ok()?.saturating_sub(cache.unwrap_or(0)))
}

impl Limit {
    fn read(file: PathBuf) -> Option<Self> {
        let value = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (value < UNLIMITED_V1).then_some(Self { file, value })
    }
}

impl Group {
    /// A line of `/proc/self/cgroup`: `ID:CONTROLLERS:PATH`, without controllers for version 2.
    fn parse(line: &str, mounts: &[Mount<'_>], root: &Path) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mount = mounts.iter().find(|mount| mount.has(controllers))?;
        // A group outside of what is mounted (a container without a namespace of its own) shows
        // at the mount point.
        let inside = Path::new(path).strip_prefix(mount.root).unwrap_or_else(|_| Path::new(""));
        let mount_point = root.join(mount.point.trim_start_matches('/'));
        let named = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        let folder = mount_point.join(inside);
        Some(Self { controllers: named.collect(), mount_point, folder })
    }

    fn file_name(&self, setting: Setting) -> Option<&'static str> {
        if self.controllers.is_empty() {
            return Some(setting.v2);
        }
        let (controller, _) = setting.v1.split_once('.')?;
        self.controllers.iter().any(|name| name == controller).then_some(setting.v1)
    }
}

/// A mounted hierarchy.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    unified: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// A line of `/proc/self/mountinfo`: `ID PARENT DEVICE ROOT POINT … - TYPE SOURCE OPTIONS`.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        let kind = after.next().filter(|kind| ["cgroup", "cgroup2"].contains(kind))?;
        let options = after.nth(1)?;
        let (root, point) = (before.next()?, before.next()?);
        Some(Self { root, point, unified: kind == "cgroup2", options })
    }

    fn has(&self, controllers: &str) -> bool {
        match controllers.split(',').next() {
            None | Some("") => self.unified,
            Some(first) => !self.unified && self.options.split(',').any(|option| option == first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of a file system with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
        }
        root
    }

    fn values(root: &tempfile::TempDir, setting: Setting) -> Vec<u64> {
        let limits = Groups::read_below(root.path()).limits(setting);
        limits.into_iter().map(|limit| limit.value).collect()
    }

    #[test]
    fn version_2_is_read_up_to_the_mount_point() {
        let root = root(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/a/b/pids.max", "max\n"),
            ("sys/fs/cgroup/a/pids.max", "20\n"),
            ("sys/fs/cgroup/pids.max", "500\n"),
            ("sys/fs/pids.max", "1\n"),
            ("sys/fs/cgroup/a/b/memory.max", "1048576\n"),
        ]);
        assert_eq!(values(&root, PIDS_MAX), [20, 500]);
        assert_eq!(values(&root, MEMORY_MAX), [1 << 20]);
        let tightest = Groups::read_below(root.path()).tightest(PIDS_MAX).expect("two limits");
        assert!(tightest.value == 20 && tightest.file.ends_with("cgroup/a/pids.max"));
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each_controller() {
        let root = root(&[
            ("proc/self/cgroup", "8:pids:/docker/x\n4:memory:/docker/x\n0::/\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "16777216\n"),
            ("sys/fs/cgroup/pids/docker/x/pids.max", "7\n"),
            ("sys/fs/cgroup/pids/docker/pids.max", "max\n"),
        ]);
        assert_eq!(values(&root, MEMORY_MAX), [16 << 20]);
        assert_eq!(values(&root, PIDS_MAX), [7]);
    }

    #[test]
    fn memory_is_left_where_it_is_not_used_or_is_only_cache() {
        let left = |root: &tempfile::TempDir| {
            let left = Groups::read_below(root.path()).memory_left();
            left.into_iter().map(|limit| limit.value).collect::<Vec<_>>()
        };
        let unified = root(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "9\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "700\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 600\ninactive_file 100\nactive_file 0\n"),
        ]);
        assert_eq!(left(&unified), [400]);
        let version_1 = root(&[
            ("proc/self/cgroup", "4:memory:/docker/x\n"),
            ("proc/self/mountinfo", "35 31 0:32 /docker/x /m rw - cgroup cgroup rw,memory\n"),
            ("m/memory.limit_in_bytes", "1000\n"),
            ("m/memory.usage_in_bytes", "1200\n"),
            ("m/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
        ]);
        assert_eq!(left(&version_1), [100]);
    }

    #[test]
    fn what_is_unlimited_or_not_there_sets_nothing() {
        let root = root(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            ("proc/self/mountinfo", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n"),
            ("m/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(values(&root, MEMORY_MAX), [0_u64; 0]);
        assert!(Groups::read_below(Path::new("/nowhere")).limits(PIDS_MAX).is_empty());
    }
}
