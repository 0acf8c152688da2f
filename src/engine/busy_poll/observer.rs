//! The thread that reads CPU quotas while the server runs and publishes what workers may spin.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};

use super::budget::Share;
use super::quota::QuotaPolicy;
use super::{BusyPollStats, LimitedBy};
use crate::clock::{monotonic_ns, process_cpu_ns};
use crate::metrics::Published;
use crate::sys::cpu_quota::CpuGroups;
use crate::sys::threads::{self, ThreadError};

/// One period of a quota, as nearly everybody sets it.
const WHILE_SPINNING: Duration = Duration::from_millis(100);
/// An idle server is left to sleep.
const WHILE_IDLE: Duration = Duration::from_secs(1);

/// What each worker may spin, for the workers to read.
#[derive(Debug)]
pub(crate) struct SharedLimit(AtomicU32);

impl SharedLimit {
    /// No limit.
    pub(crate) const fn unlimited() -> Self {
        Self(AtomicU32::new(Share::WHOLE.0))
    }

    pub(crate) fn get(&self) -> Share {
        Share(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, share: Share) {
        self.0.store(share.0, Ordering::Relaxed);
    }
}

/// What busy poll has been doing in each worker, and what limits it.
pub(crate) type Workers = Vec<Arc<Published<BusyPollStats>>>;

/// Reads the quotas and computes what may be spun. Opened before a sandbox closes the file system.
#[derive(Debug)]
pub(crate) struct QuotaReader {
    groups: CpuGroups,
    policy: QuotaPolicy,
    limit: Arc<SharedLimit>,
}

impl QuotaReader {
    pub(crate) fn new(workers: usize, limit: Arc<SharedLimit>) -> Self {
        let groups = CpuGroups::open(Path::new("/"));
        Self { groups, policy: QuotaPolicy::new(workers), limit }
    }

    /// Publishes what each worker may spin, given how much all of them have spun so far.
    fn read(&mut self, spun_ns: u64) -> Share {
        let share = if self.groups.follow() {
            let uses = self.groups.read();
            self.policy.observe(monotonic_ns(), process_cpu_ns(), spun_ns, &uses)
        } else {
            // There may be a quota that cannot be read.
            Share(0)
        };
        self.limit.set(share);
        share
    }
}

/// Whether a quota limits what a server with so many workers may spin on this machine now.
pub(crate) fn limited_by_quota(workers: usize) -> LimitedBy {
    let limit = Arc::new(SharedLimit::unlimited());
    named(QuotaReader::new(workers, limit).read(0))
}

fn named(share: Share) -> LimitedBy {
    if share < Share::WHOLE { LimitedBy::Quota } else { LimitedBy::None }
}

/// Keeps a [`SharedLimit`] up to date until it is dropped.
#[derive(Debug)]
pub(crate) struct QuotaObserver {
    /// What limited spinning at the start.
    pub(crate) limited_by: LimitedBy,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl QuotaObserver {
    /// Reads once, then in a thread of its own: after a sandbox, which does not apply to threads
    /// that are there already.
    pub(crate) fn start(mut reader: QuotaReader, workers: Workers) -> Result<Self, ThreadError> {
        let limited_by = named(reader.read(0));
        let (stop, stopped) = mpsc::channel();
        let thread = threads::spawn("quota", move || {
            let (mut spun_ns, mut last) = (0, limited_by);
            let mut pause = WHILE_IDLE;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let now_spun: u64 = workers.iter().map(|worker| worker.read().spun_ns()).sum();
                pause = if now_spun == spun_ns { WHILE_IDLE } else { WHILE_SPINNING };
                spun_ns = now_spun;
                let limited_by = named(reader.read(spun_ns));
                if limited_by != last {
                    info!(busy_poll_limited_by = limited_by.name(), "the CPU quota has changed");
                    last = limited_by;
                }
            }
        })?;
        Ok(Self { limited_by, thread: Some((stop, thread)) })
    }
}

impl Drop for QuotaObserver {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.thread.take() else { return };
        drop(stop);
        if thread.join().is_err() {
            warn!("the thread that reads CPU quotas has panicked");
        }
    }
}
