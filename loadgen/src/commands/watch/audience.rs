//! Who is told of a watch while it goes on, once a second.

use super::exporter::Exporter;
use crate::model::watch_live::WatchSecond;
use crate::render::watch_progress::WatchProgress;
use crate::sys::processes::{Owners, socket_owners};

/// Everybody who is told.
#[derive(Debug)]
pub(super) struct Audience {
    progress: WatchProgress,
    exporter: Option<Exporter>,
    /// Of the listeners seen last.
    owners: Owners,
}

impl Audience {
    pub(super) fn new(target: String, exporter: Option<Exporter>) -> Self {
        Self { progress: WatchProgress::new(target), exporter, owners: Owners::new() }
    }

    /// A second is over.
    pub(super) fn second(&mut self, second: &WatchSecond<'_>) {
        self.look_for_owners(second);
        self.progress.second(second, &self.owners);
        if let Some(exporter) = &self.exporter {
            exporter.second(second, &self.owners);
        }
    }

    /// A walk through all processes: only when there are other listeners than before.
    fn look_for_owners(&mut self, second: &WatchSecond<'_>) {
        let inodes = || second.listeners.iter().map(|listener| listener.inode);
        if inodes().all(|inode| self.owners.contains_key(&inode)) {
            return;
        }
        let mut found = socket_owners(&inodes().collect::<Vec<_>>()).unwrap_or_default();
        // Whose owner may not be looked at is not looked for again.
        for inode in inodes() {
            found.entry(inode).or_default();
        }
        self.owners = found;
    }
}
