//! The loop that every engine with a [`Shard`] runs: wait → what happened → what to do about it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tracing::debug;

use super::busy_poll::policy::PREEMPTED_NS;
use super::busy_poll::{BusyPollPolicy, Wait};
use super::context::WorkerContext;
use super::cut_off::CutOffLog;
use super::error::EngineError;
use super::fullness::Fullness;
use super::loop_stats::LoopStats;
use crate::clock::{monotonic_ns, thread_cpu_ns};
use crate::config::Stall;
use crate::echo::{Action, Event, ListenerId, Nanos, Shard, Stats};
use crate::shutdown::Phase;

/// Events handled between two polls of the kernel.
pub(super) const BATCH: usize = 256;
/// Events handled before housekeeping and the next poll, however many are left. Operations that end
/// at once produce new events without end; stop signals and new connections must not starve.
const EVENTS_PER_ROUND: usize = 16 * BATCH;
/// Counters are published at most this often while there is work, and before every sleep.
const PUBLISH_NS: u64 = 10_000_000;
/// Connections that a worker takes at most from queues that are a successor's already. The kernel
/// wakes one of those who wait for a queue, which may be an accept that is being cancelled: then
/// the connection waits until another comes, of which the successor is told, and takes both.
const LEFT_BEHIND: u32 = 64;

/// The kernel's side of a worker: carries out the shard's actions and reports their results.
pub(super) trait Kernel: Sized {
    /// Everything the worker needs, made on its own thread.
    fn new(context: &WorkerContext) -> Result<Self, EngineError>;

    /// Features that this kernel lacks, for the log.
    fn degraded(&self) -> &[String];

    /// The most connections an accept can still bring after its cancel was asked for.
    fn accept_burst(&self) -> u32;

    /// Carries out one action, decided at `now`, or queues it for the next submission.
    fn carry_out(&mut self, now: u64, action: Action<'_>);

    /// Submits what is queued, without polling for completions.
    fn submit(&mut self) -> Result<(), EngineError>;

    /// Polls without waiting; true if there is something to reap.
    fn poll(&mut self) -> Result<bool, EngineError>;

    /// Waits until there is something to reap, or for `limit`.
    fn wait(&mut self, limit: Option<Duration>) -> Result<(), EngineError>;

    /// Moves new events into `events`, which is empty: accepts first, because connections in the
    /// queue wait longer than bytes of accepted ones. If it stays empty, the kernel is to be polled
    /// again.
    fn reap(&mut self, events: &mut Vec<Event>);

    /// While the server drains: accepts connections that are queued already, one for each that
    /// `may_take` allows, and closes each listener whose queue is empty; all of them once the phase
    /// is [`Phase::Stopping`].
    fn drain_accept_queue(&mut self, phase: Phase, may_take: impl FnMut(ListenerId) -> bool);

    /// Whether every listener is closed.
    fn listeners_closed(&self) -> bool;

    /// The error of a listener that became unusable, if there is one.
    fn fault(&self) -> Option<Errno>;
}

/// Runs one worker until it has drained or is stopped.
pub(super) fn run<K: Kernel>(
    context: WorkerContext,
    ready: &mpsc::Sender<Vec<String>>,
) -> Result<Stats, EngineError> {
    let mut worker = Worker::<K>::new(context)?;
    worker.handle(Event::Start);
    worker.kernel.submit()?;
    // If the receiver is gone, the server is already being stopped.
    if ready.send(worker.kernel.degraded().to_vec()).is_err() {
        debug!("the receiver of the ready message is gone");
    }
    worker.serve()
}

/// One worker thread: a shard that decides and a kernel that carries it out.
struct Worker<K> {
    shard: Shard,
    kernel: K,
    context: WorkerContext,
    busy_poll: BusyPollPolicy,
    cut_off: CutOffLog,
    phase: Phase,
    now: u64,
    published: u64,
    next_stall: Option<u64>,
    fullness: Fullness,
    /// Looks into queues that are a successor's.
    last_looks: u32,
    turns: LoopStats,
}

impl<K: Kernel> Worker<K> {
    fn new(mut context: WorkerContext) -> Result<Self, EngineError> {
        let now = monotonic_ns();
        let kernel = K::new(&context)?;
        // The kernel has its own reference to each listener and drops it to close it.
        context.listeners.clear();
        let mut limits = context.limits.shard;
        limits.accept_burst = kernel.accept_burst();
        Ok(Self {
            shard: Shard::new(limits),
            kernel,
            busy_poll: BusyPollPolicy::new(context.config.busy_poll, now, thread_cpu_ns()),
            cut_off: CutOffLog::default(),
            phase: Phase::Serving,
            now,
            published: now,
            turns: LoopStats { buffers: u32::from(limits.buffers), ..LoopStats::default() },
            fullness: Fullness::new(context.index, context.limits.shard.max_connections),
            last_looks: 0,
            next_stall: context.config.stall.map(|stall| now + nanos(stall.every) / 2),
            context,
        })
    }

    /// The loop: wait → accepts → the rest → housekeeping.
    fn serve(&mut self) -> Result<Stats, EngineError> {
        let mut events = Vec::with_capacity(2 * BATCH);
        while !self.is_finished() {
            self.stall();
            self.wait()?;
            let (mut left, mut handled) = (EVENTS_PER_ROUND, 0);
            while left > 0 {
                self.kernel.reap(&mut events);
                // The clock is read for each batch, because handling one takes time and a
                // submission in its middle lets the kernel accept more: no accept may be stamped
                // with a time before it happened.
                self.now = monotonic_ns();
                if events.is_empty() {
                    break;
                }
                left = left.saturating_sub(events.len());
                handled += events.len() as u64;
                events.drain(..).for_each(|event| self.handle(event));
            }
            self.turns.record(handled);
            self.housekeeping()?;
        }
        self.publish();
        Ok(*self.shard.stats())
    }

    fn is_finished(&self) -> bool {
        self.phase != Phase::Serving && self.shard.is_finished() && self.kernel.listeners_closed()
    }

    fn handle(&mut self, event: Event) {
        let (kernel, now) = (&mut self.kernel, self.now);
        self.shard.handle(Nanos(now), event, &mut |action| kernel.carry_out(now, action));
    }

    /// What no event reports: time, the server's phase, an unusable listener.
    fn housekeeping(&mut self) -> Result<(), EngineError> {
        if let Some(errno) = self.kernel.fault() {
            return Err(EngineError::Listener(errno));
        }
        if self.shard.deadline().is_some_and(|deadline| deadline.0 <= self.now) {
            self.handle(Event::Tick);
            if self.shard.is_stopped() {
                self.phase = Phase::Stopping;
            }
        }
        let phase = self.context.control.phase();
        if phase > self.phase {
            self.phase = phase;
            self.handle(if phase == Phase::Draining { Event::Drain } else { Event::Stop });
        }
        let Stats { accepted, closed, .. } = *self.shard.stats();
        self.fullness.observe(self.now, accepted - closed);
        if self.phase != Phase::Serving {
            self.drain_accept_queue();
        }
        if self.now - self.published >= PUBLISH_NS {
            self.publish();
        }
        Ok(())
    }

    fn drain_accept_queue(&mut self) {
        let Self { shard, last_looks, .. } = self;
        let keeps = self.context.control.keeps_queues();
        let phase = if keeps && *last_looks >= LEFT_BEHIND { Phase::Stopping } else { self.phase };
        self.kernel.drain_accept_queue(phase, |listener| {
            *last_looks += u32::from(keeps);
            shard.begin_queued_accept(listener)
        });
    }

    fn publish(&mut self) {
        self.published = self.now;
        self.cut_off.update(self.now, self.shard.stats());
        self.turns.buffers_in_use = self.shard.buffers_in_use().into();
        self.turns.parked = self.shard.parked();
        let counters = &self.context.counters;
        counters.echo.publish(self.shard.stats());
        counters.busy_poll.publish(self.busy_poll.stats());
        counters.turns.publish(&self.turns);
    }

    /// Submits and waits for completions: spins first where the policy says so, then sleeps.
    fn wait(&mut self) -> Result<(), EngineError> {
        let start = self.now;
        if self.busy_poll.needs_cpu(start) {
            let most = self.context.spin_limit.get();
            self.busy_poll.record_cpu(start, thread_cpu_ns(), most);
        }
        let spin = self.busy_poll.spin(start);
        let Some(mut wait) = self.spin(spin.ns)? else { return Ok(()) };
        if wait.slept && spin.then_sleep {
            self.publish();
            self.kernel.wait(self.limit())?;
            wait.ns = monotonic_ns() - start;
        }
        self.busy_poll.record_wait(wait);
        Ok(())
    }

    /// Polls for `ns` or until something is to be reaped: how that went, or `None` if something was
    /// there already. `slept` says that nothing came.
    fn spin(&mut self, ns: u64) -> Result<Option<Wait>, EngineError> {
        let mut wait = Wait { slept: true, ..Wait::default() };
        if ns == 0 {
            return Ok(Some(wait));
        }
        // The first poll submits what is queued: that is work, not spinning.
        if self.kernel.poll()? {
            return Ok(None);
        }
        let start = monotonic_ns();
        let until = self.next_timer().unwrap_or(u64::MAX).min(start.saturating_add(ns));
        let mut now = start;
        while now < until && wait.slept {
            for _ in 0..16 {
                if self.kernel.poll()? {
                    wait.slept = false;
                    break;
                }
                std::hint::spin_loop();
            }
            let before = std::mem::replace(&mut now, monotonic_ns());
            if now - before > PREEMPTED_NS {
                self.busy_poll.record_preemption(now);
                break;
            }
            wait.spun_ns = now - start;
        }
        wait.ns = wait.spun_ns;
        Ok(Some(wait))
    }

    /// When the next timer is due, if no completion comes before.
    fn next_timer(&self) -> Option<u64> {
        let deadline = self.shard.deadline().map(|deadline| deadline.0);
        deadline.into_iter().chain(self.next_stall).min()
    }

    fn limit(&self) -> Option<Duration> {
        let next = self.next_timer()?;
        Some(Duration::from_nanos(next.saturating_sub(monotonic_ns())))
    }

    fn stall(&mut self) {
        let (Some(at), Some(Stall { length, every })) =
            (self.next_stall, self.context.config.stall)
        else {
            return;
        };
        if monotonic_ns() >= at {
            thread::sleep(length);
            self.next_stall = Some(at + nanos(every));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
