//! The generator threads as one.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use uring_echo::clock::monotonic_ns;

use super::event_loop::EventLoop;
use super::exchange::{Exchange, Filled, SPARES};
use super::recorder::Recording;
use super::{GenerateError, GeneratorPlan};
use crate::plan::schedule::ThreadShare;

/// Running generator threads.
#[derive(Debug)]
pub struct GeneratorThreads {
    start_ns: u64,
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
    /// Starts the threads; the first arrival is due a moment after all of them are ready. Setting
    /// `stop` ends the run: no more arrivals, and what is open is unfinished.
    ///
    /// # Errors
    /// [`GenerateError`] of the first thread that could not set itself up; none is left running.
    pub fn start(plan: &Arc<GeneratorPlan>, stop: &Arc<AtomicBool>) -> Result<Self, GenerateError> {
        let of = plan.threads();
        let (filled_in, filled) = mpsc::sync_channel(usize::from(of) * (SPARES + 2));
        let (ready_in, ready) = mpsc::channel();
        let begin = Arc::new(OnceLock::new());
        let (mut threads, mut spares) = (Vec::new(), Vec::new());
        for index in 0..of {
            let (exchange, spare) = exchange(index, filled_in.clone());
            let (plan, begun) = (Arc::clone(plan), Arc::clone(&begin));
            let (stop, ready) = (Arc::clone(stop), ready_in.clone());
            let share = ThreadShare { index, of };
            let body = move || generate(&plan, share, exchange, stop, ready, &begun);
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
        let all_ready = ready.iter().take(of.into()).count() == usize::from(of);
        let start_ns = all_ready.then(|| monotonic_ns() + HEAD_START_NS);
        begin.set(start_ns).expect("only this thread sets it");
        let threads = Self { start_ns: start_ns.unwrap_or_default(), filled, spares, threads };
        if all_ready { Ok(threads) } else { Err(threads.join().expect_err("one was not ready")) }
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
fn generate(
    plan: &GeneratorPlan,
    share: ThreadShare,
    exchange: Exchange,
    stop: Arc<AtomicBool>,
    ready: mpsc::Sender<()>,
    begin: &OnceLock<Option<u64>>,
) -> Result<(), GenerateError> {
    let failed = |source| GenerateError::Thread { thread: share.index, source };
    pin(plan, share.index).map_err(failed)?;
    let dispatcher = EventLoop::new(plan, share, exchange, Arc::clone(&stop))?;
    ready.send(()).map_err(io::Error::other).map_err(failed)?;
    // Who waits for all to be ready learns from the last of these that one never will be.
    drop(ready);
    let Some(start_ns) = *begin.wait() else { return Ok(()) };
    dispatcher.run(start_ns).inspect_err(|_| stop.store(true, Ordering::Relaxed))
}

fn pin(plan: &GeneratorPlan, index: u16) -> io::Result<()> {
    let Some(nth) = usize::from(index).checked_rem(plan.cpus.len()) else { return Ok(()) };
    let mut cpu = CpuSet::new();
    cpu.set(plan.cpus[nth]);
    Ok(sched_setaffinity(None, &cpu)?)
}

/// From the last thread's readiness to the start of the run.
const HEAD_START_NS: u64 = 20_000_000;
