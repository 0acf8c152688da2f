//! Entering the network namespace of another process (network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that cannot be entered.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot enter the network namespace {path}: {cause}; it takes root, or the same user inside \
     its user namespace. A process that shares the namespace (a sidecar, nsenter, `docker run \
     --network container:NAME`) needs no privilege",
    path = path.display()
)]
pub struct NamespaceError {
    path: PathBuf,
    cause: io::Error,
}

impl NamespaceError {
    /// Whether it is there, but for others.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }
}

/// A network namespace by the path that named it.
#[derive(Debug)]
pub struct Network {
    path: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

impl Network {
    /// The one that `path` names now.
    #[must_use]
    pub fn named(path: &Path) -> Self {
        Self { path: path.to_owned(), device_and_inode: device_and_inode(path) }
    }

    /// Whether its path names it still: the process has not ended, nor was the file unmounted.
    #[must_use]
    pub fn is_still_named(&self) -> bool {
        self.device_and_inode.is_none_or(|known| device_and_inode(&self.path) == Some(known))
    }

    /// The path that named it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The file that names the network namespace of a process.
pub fn network_of(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// Moves the calling thread into the network namespace `path`; for one inside a user namespace of
/// the same user, into that first, which only a process with a single thread can do (setns(2)).
///
/// # Errors
/// [`NamespaceError`].
pub fn enter_network(path: &Path) -> Result<(), NamespaceError> {
    let failed = |cause| NamespaceError { path: path.to_owned(), cause };
    let network = File::open(path).map_err(failed)?;
    let same = |own: &std::fs::Metadata, other: &std::fs::Metadata| {
        (own.dev(), own.ino()) == (other.dev(), other.ino())
    };
    let own = std::fs::metadata("/proc/thread-self/ns/net").map_err(failed)?;
    if same(&own, &network.metadata().map_err(failed)?) {
        return Ok(());
    }
    let kind = Some(LinkNameSpaceType::Network);
    let entered = move_into_link_name_space(network.as_fd(), kind).map_err(io::Error::from);
    let Err(denied) = entered else { return Ok(()) };
    let user = path.parent().map(|folder| folder.join("user"));
    let Some(user) = user.filter(|user| user.exists()) else { return Err(failed(denied)) };
    let user = File::open(user).map_err(failed)?;
    let inside = move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User));
    inside.map_err(|_| failed(denied))?;
    move_into_link_name_space(network.as_fd(), kind).map_err(|cause| failed(cause.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_namespace_needs_no_entering() {
        enter_network(&network_of(std::process::id())).unwrap();
    }

    #[test]
    fn a_namespace_is_known_again_until_its_path_is_gone() {
        let own = Network::named(&network_of(std::process::id()));
        assert!(own.is_still_named());
        let gone = Network { path: "/nowhere/net".into(), ..own };
        assert!(!gone.is_still_named());
    }

    #[test]
    fn what_is_no_namespace_is_named() {
        let error = enter_network(Path::new("/nowhere/net")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/net") && error.contains("No such file"), "{error}");
        assert!(enter_network(Path::new("/proc/self/ns/mnt")).is_err());
    }
}
