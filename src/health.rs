//! Whether a running server is alive, and whether it is ready for more connections.
//!
//! A worker that sleeps because nothing happens looks like one that is stuck, so a thread wakes
//! each of them now and then and looks whether its loop has made a turn since.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::monotonic_ns;
use crate::engine::{Stats, WorkerCounters};
use crate::shutdown::{Control, Phase};
use crate::stamp::AcceptMode;
use crate::sys::threads::{self, ThreadError};

/// How often workers are woken at least.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// A worker that was woken so often and made no turn is stuck.
const CHANCES: u32 = 3;

/// Why no new connection should come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    Starting,
    /// Told to stop: what still comes is served, but whoever has a choice should go elsewhere.
    Stopping,
    /// New connections wait until others end.
    Full,
    /// A worker makes no turn.
    Stuck,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Full => "full",
            Self::Stuck => "stuck",
        })
    }
}

/// The state of a server, for whoever asks.
#[derive(Debug)]
pub(crate) struct Health {
    control: Arc<Control>,
    workers: Vec<Watched>,
    /// Whether a connection waits for one worker and no other.
    own_queues: bool,
    /// A worker that is stuck, counted from 1; 0 for none.
    stuck: AtomicUsize,
}

/// A worker and the most connections that it may have.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) counters: WorkerCounters,
    pub(crate) max_connections: u32,
}

impl Watched {
    fn is_full(&self) -> bool {
        let Stats { accepted, closed, .. } = self.counters.echo.read();
        accepted - closed >= u64::from(self.max_connections)
    }
}

impl Health {
    pub(crate) fn new(control: Arc<Control>, workers: Vec<Watched>, accept: AcceptMode) -> Self {
        let own_queues = accept == AcceptMode::Reuseport;
        Self { control, workers, own_queues, stuck: AtomicUsize::new(0) }
    }

    pub(crate) fn workers(&self) -> &[Watched] {
        &self.workers
    }

    /// In words, for people.
    pub(crate) fn status(&self) -> String {
        let stats: Stats = self.workers.iter().map(|worker| worker.counters.echo.read()).sum();
        let Stats { accepted, closed, .. } = stats;
        match self.readiness() {
            Ok(()) => format!("{} connections open, {accepted} accepted", accepted - closed),
            Err(reason) => format!("{reason}; {} connections open", accepted - closed),
        }
    }

    /// Whether new connections are served at once.
    pub(crate) fn readiness(&self) -> Result<(), NotReady> {
        let is_full = if self.own_queues {
            self.workers.iter().any(Watched::is_full)
        } else {
            self.workers.iter().all(Watched::is_full)
        };
        match () {
            () if self.control.is_stopping() => Err(NotReady::Stopping),
            () if !self.control.is_ready() => Err(NotReady::Starting),
            () if self.stuck_worker().is_some() => Err(NotReady::Stuck),
            () if is_full => Err(NotReady::Full),
            () => Ok(()),
        }
    }

    /// A worker that makes no turn although it was woken; none while the server ends.
    pub(crate) fn stuck_worker(&self) -> Option<usize> {
        let stuck = NonZeroUsize::new(self.stuck.load(Ordering::Relaxed))?;
        Some(stuck.get() - 1)
    }

    /// Starts the thread that wakes the workers each `interval`; `after_each` is called after it
    /// has looked. It ends when nobody has `self` any more.
    pub(crate) fn observe(
        self: &Arc<Self>,
        interval: Duration,
        mut after_each: impl FnMut(&Self) + Send + 'static,
    ) -> Result<(), ThreadError> {
        let observed = Arc::downgrade(self);
        let mut pulse = Pulse::new(self.workers.len(), interval * CHANCES);
        threads::spawn("health", move || {
            while let Some(health) = observed.upgrade() {
                let stuck = health.look(&mut pulse);
                health.stuck.store(stuck.map_or(0, |worker| worker + 1), Ordering::Relaxed);
                after_each(&health);
                drop(health);
                thread::sleep(interval);
            }
        })?;
        Ok(())
    }

    fn look(&self, pulse: &mut Pulse) -> Option<usize> {
        if self.control.phase() != Phase::Serving {
            return None;
        }
        let turns = self.workers.iter().map(|worker| worker.counters.turns.read().all_turns());
        let stuck = pulse.stuck(Duration::from_nanos(monotonic_ns()), turns);
        self.control.wake_workers();
        stuck
    }
}

/// When each worker was last seen to have made a turn.
#[derive(Debug)]
struct Pulse {
    limit: Duration,
    last: Vec<Option<(u64, Duration)>>,
}

impl Pulse {
    fn new(workers: usize, limit: Duration) -> Self {
        Self { limit, last: vec![None; workers] }
    }

    /// The first worker that has made no turn for longer than the limit.
    fn stuck(&mut self, now: Duration, turns: impl Iterator<Item = u64>) -> Option<usize> {
        let mut stuck = None;
        for (worker, (last, turns)) in self.last.iter_mut().zip(turns).enumerate() {
            match *last {
                Some((before, since)) if before == turns => {
                    let is_stuck = now.saturating_sub(since) > self.limit;
                    stuck = stuck.or_else(|| is_stuck.then_some(worker));
                }
                _ => *last = Some((turns, now)),
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_without_a_turn_is_stuck_after_the_limit_until_its_next_turn() {
        let mut pulse = Pulse::new(2, at(15));
        assert_eq!(pulse.stuck(at(0), [0, 0].into_iter()), None);
        for (now, turns, stuck) in
            [(5, [1, 1], None), (20, [2, 1], None), (25, [3, 1], Some(1)), (30, [4, 2], None)]
        {
            assert_eq!(pulse.stuck(at(now), turns.into_iter()), stuck, "after {now} s");
        }
    }

    fn health(accept: AcceptMode, open: [u64; 2]) -> Health {
        let control = Control::new(2, Vec::new(), false).expect("eventfds");
        control.announce_ready();
        let watched = |accepted| {
            let watched = Watched { counters: WorkerCounters::default(), max_connections: 8 };
            watched.counters.echo.publish(&Stats { accepted, ..Stats::default() });
            watched
        };
        Health::new(Arc::new(control), open.into_iter().map(watched).collect(), accept)
    }

    #[test]
    fn full_is_where_a_new_connection_would_wait() {
        let readiness = |accept, open| health(accept, open).readiness();
        assert_eq!(readiness(AcceptMode::Reuseport, [7, 7]), Ok(()));
        assert_eq!(readiness(AcceptMode::Reuseport, [8, 0]), Err(NotReady::Full));
        assert_eq!(readiness(AcceptMode::Shared, [8, 0]), Ok(()));
        assert_eq!(readiness(AcceptMode::Shared, [8, 8]), Err(NotReady::Full));
    }

    #[test]
    fn a_server_is_not_ready_before_it_listens_and_once_it_is_told_to_stop() {
        let control = Arc::new(Control::new(0, Vec::new(), false).expect("eventfds"));
        let health = Health::new(Arc::clone(&control), Vec::new(), AcceptMode::Reuseport);
        assert_eq!(health.readiness(), Err(NotReady::Starting));
        control.announce_ready();
        assert_eq!(health.readiness(), Ok(()));
        control.announce_stop();
        assert_eq!(control.phase(), Phase::Serving, "it goes on for the drain delay");
        assert_eq!(health.readiness(), Err(NotReady::Stopping));
    }
}
