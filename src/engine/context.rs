//! What a worker is given.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::busy_poll::BusyPollStats;
use super::busy_poll::observer::SharedLimit;
use super::limits::WorkerLimits;
use super::loop_stats::LoopStats;
use crate::config::Config;
use crate::echo::Stats;
use crate::metrics::Published;
use crate::shutdown::Control;

/// What one worker publishes.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) echo: Arc<Published<Stats>>,
    pub(crate) busy_poll: Arc<Published<BusyPollStats>>,
    pub(crate) turns: Arc<Published<LoopStats>>,
}

/// Everything that one worker needs to start.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) index: usize,
    pub(crate) listeners: Vec<Arc<OwnedFd>>,
    pub(crate) config: Config,
    pub(crate) limits: WorkerLimits,
    pub(crate) control: Arc<Control>,
    pub(crate) counters: WorkerCounters,
    /// The most that a worker may spin.
    pub(crate) spin_limit: Arc<SharedLimit>,
}
