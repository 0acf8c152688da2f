//! The generator threads as one.

use std::io;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use uring_echo::clock::{monotonic_ns, realtime_ahead_ns};

use super::event_loop::{EventLoop, Part, Shared};
use super::exchange::{Exchange, Filled, SPARES};
use super::recorder::Recording;
use super::transport::{EpollTransport, RingTransport, Transport, TransportKind};
use super::{GenerateError, GeneratorPlan};
use crate::model::load::TransportChoice;
use crate::plan::schedule::PlanShare;
use crate::sys::time::unix_ns;

/// Running generator threads.
#[derive(Debug)]
pub struct GeneratorThreads {
    start_ns: u64,
    transport: TransportKind,
    degraded: Vec<String>,
    filled: Receiver<Filled>,
    spares: Vec<SyncSender<Recording>>,
    threads: Vec<JoinHandle<Result<(), GenerateError>>>,
}

/// What a [`GeneratorThreads`] has to say.
#[derive(Debug)]
pub enum Delivery {
    /// One thread's measurements over the last second, or over the rest at the end.
    Interval(Box<BorrowedRecording>),
    /// Nothing within the time given.
    Nothing,
    /// Every thread has ended.
    Over,
}

/// An interval that goes back to its thread when it has been read.
#[derive(Debug)]
pub struct BorrowedRecording {
    filled: Option<Filled>,
    back: SyncSender<Recording>,
}

impl GeneratorThreads {
    /// Starts the threads over the transport that the plan names; the first arrival is due a moment
    /// after all of them are ready. Setting `stop` ends the run: no more arrivals, and what is open
    /// is unfinished.
    ///
    /// # Errors
    /// [`GenerateError`] of the first thread that could not set itself up; none is left running.
    pub fn start(plan: &Arc<GeneratorPlan>, stop: &Arc<AtomicBool>) -> Result<Self, GenerateError> {
        match plan.config.transport {
            TransportChoice::Auto => Self::start_over_the_best(plan, stop),
            TransportChoice::Uring => Self::start_over(TransportKind::Uring, plan, stop),
            TransportChoice::Epoll => Self::start_over(TransportKind::Epoll, plan, stop),
        }
    }

    /// Rings; where one thread cannot have its own, epoll for all. Trying is the only test that
    /// counts what the rings need together.
    fn start_over_the_best(
        plan: &Arc<GeneratorPlan>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, GenerateError> {
        let error = match Self::start_over(TransportKind::Uring, plan, stop) {
            Err(GenerateError::Ring { error }) => error,
            other => return other,
        };
        let Some(reason) = error.unavailable() else { return Err(error.into()) };
        let mut threads = Self::start_over(TransportKind::Epoll, plan, stop)?;
        threads.degraded.insert(0, reason);
        Ok(threads)
    }

    fn start_over(
        transport: TransportKind,
        plan: &Arc<GeneratorPlan>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, GenerateError> {
        let of = plan.threads();
        let (filled_in, filled) = mpsc::sync_channel(usize::from(of) * (SPARES + 2));
        let (ready_in, ready) = mpsc::channel();
        let begin = Arc::new(OnceLock::new());
        let (mut threads, mut spares) = (Vec::new(), Vec::new());
        let shared = Shared::of(&plan.config);
        for index in 0..of {
            let (exchange, spare) = exchange(index, filled_in.clone());
            let (plan, begun) = (Arc::clone(plan), Arc::clone(&begin));
            let (stop, ready) = (Arc::clone(stop), ready_in.clone());
            let share = PlanShare { index: index.into(), of: of.into() };
            let part = Part { share, exchange, shared: shared.clone(), stop };
            let body = move || match transport {
                TransportKind::Uring => generate::<RingTransport>(&plan, part, ready, &begun),
                TransportKind::Epoll => generate::<EpollTransport>(&plan, part, ready, &begun),
            };
            let spawned = thread::Builder::new().name(format!("generate-{index}")).spawn(body);
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    begin.set(None).expect("only this thread sets it");
                    return Err(GenerateError::Thread { thread: index, source });
                }
            }
            spares.push(spare);
        }
        drop((filled_in, ready_in));
        let lacking: Vec<Vec<String>> = ready.iter().take(of.into()).collect();
        let all_ready = lacking.len() == usize::from(of);
        let start_ns = all_ready.then(|| start_ns(plan.config.start_at)).transpose();
        begin.set(start_ns.as_ref().ok().copied().flatten()).expect("only this thread sets it");
        let start_ns = start_ns?.unwrap_or_default();
        // The threads run on one kernel: what one lacks, all lack.
        let degraded = lacking.into_iter().next().unwrap_or_default();
        let threads = Self { start_ns, transport, degraded, filled, spares, threads };
        if all_ready { Ok(threads) } else { Err(threads.join().expect_err("one was not ready")) }
    }

    /// What carries their connections.
    #[must_use]
    pub fn transport(&self) -> TransportKind {
        self.transport
    }

    /// What they have to do without.
    #[must_use]
    pub fn degraded(&self) -> &[String] {
        &self.degraded
    }

    /// When the run starts, monotonic nanoseconds.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Waits at most this long for the next delivery.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Delivery {
        match self.filled.recv_timeout(timeout) {
            Ok(filled) => {
                let back = self.spares[usize::from(filled.thread)].clone();
                Delivery::Interval(Box::new(BorrowedRecording { filled: Some(filled), back }))
            }
            Err(RecvTimeoutError::Timeout) => Delivery::Nothing,
            Err(RecvTimeoutError::Disconnected) => Delivery::Over,
        }
    }

    /// Waits until the threads have ended.
    ///
    /// # Errors
    /// The first thread that had to give up.
    pub fn join(self) -> Result<(), GenerateError> {
        let mut first = Ok(());
        for (thread, handle) in (0..).zip(self.threads) {
            let ended = handle.join().unwrap_or(Err(GenerateError::Panicked { thread }));
            first = first.and(ended);
        }
        first
    }
}

impl Deref for BorrowedRecording {
    type Target = Recording;

    fn deref(&self) -> &Recording {
        &self.filled.as_ref().expect("taken only by drop").interval
    }
}

impl Drop for BorrowedRecording {
    fn drop(&mut self) {
        let Some(Filled { mut interval, .. }) = self.filled.take() else { return };
        interval.clear();
        // A thread that has ended wants none, and one that has all its spares needs none.
        if let Err(unwanted) = self.back.try_send(interval) {
            drop(unwanted);
        }
    }
}

/// A thread's end of the exchange, stocked with spare intervals, and the way to return them.
fn exchange(thread: u16, filled: SyncSender<Filled>) -> (Exchange, SyncSender<Recording>) {
    let (spare, spares) = mpsc::sync_channel(SPARES + 1);
    for _ in 0..SPARES {
        spare.try_send(Recording::new()).expect("there is room for all spares");
    }
    (Exchange { thread, filled, spares, next_ns: 0 }, spare)
}

/// The life of one thread. If it fails, the others are stopped.
fn generate<T: Transport>(
    plan: &GeneratorPlan,
    part: Part,
    ready: mpsc::Sender<Vec<String>>,
    begin: &OnceLock<Option<u64>>,
) -> Result<(), GenerateError> {
    let (thread, stop) = (part.exchange.thread, Arc::clone(&part.stop));
    let failed = |source| GenerateError::Thread { thread, source };
    pin(plan, thread).map_err(failed)?;
    // A sleep that ends before an arrival ends then, and not up to 50 µs later.
    set_current_timer_slack(NonZeroU64::new(1)).map_err(io::Error::from).map_err(failed)?;
    let event_loop = EventLoop::<T>::new(plan, part)?;
    ready.send(event_loop.degraded().to_vec()).map_err(io::Error::other).map_err(failed)?;
    // Who waits for all to be ready learns from the last of these that one never will be.
    drop(ready);
    let Some(start_ns) = *begin.wait() else { return Ok(()) };
    event_loop.run(start_ns).inspect_err(|_| stop.store(true, Ordering::Relaxed))
}

/// When the run starts: at the instant asked for, or soon.
fn start_ns(start_at: Option<SystemTime>) -> Result<u64, GenerateError> {
    let soonest = monotonic_ns() + HEAD_START_NS;
    let Some(start_at) = start_at else { return Ok(soonest) };
    let start = unix_ns(start_at).saturating_add_signed(-realtime_ahead_ns());
    if start >= soonest {
        return Ok(start);
    }
    Err(GenerateError::LateStart { late_ms: (soonest - start).div_ceil(1_000_000) })
}

fn pin(plan: &GeneratorPlan, index: u16) -> io::Result<()> {
    let Some(nth) = usize::from(index).checked_rem(plan.cpus.len()) else { return Ok(()) };
    let mut cpu = CpuSet::new();
    cpu.set(plan.cpus[nth]);
    Ok(sched_setaffinity(None, &cpu)?)
}

/// From the last thread's readiness to the start of the run.
const HEAD_START_NS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is given back more than it can use keeps no more than its spares, and one that
    /// has ended keeps none.
    #[test]
    fn intervals_that_nobody_needs_are_freed() {
        let (filled, _) = mpsc::sync_channel(1);
        let (exchange, back) = exchange(0, filled);
        let give_back = || {
            let filled = Some(Filled { thread: 0, interval: Recording::new() });
            drop(BorrowedRecording { filled, back: back.clone() });
        };
        (0..20).for_each(|_| give_back());
        assert_eq!(exchange.spares.try_iter().count(), SPARES + 1);
        drop(exchange);
        give_back();
    }
}
