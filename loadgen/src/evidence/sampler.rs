//! The thread that samples the evidence: lowest priority, a few samples per second of most sources.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::cpu::CpuMeter;
use super::{ListenerSampler, counters, settings};
use uring_echo::sys::conntrack::{self, Losses};

use crate::model::evidence::{Conntrack, Evidence, KernelCounters, QueueEvidence};

/// What a [`Sampler`] samples.
pub struct SamplerOptions {
    /// The server's process id, where it is known and visible.
    pub server_pid: Option<u32>,
    /// CPUs of the evidence thread; `None` leaves the choice to the scheduler.
    pub cpus: Option<Vec<usize>>,
    /// The accept queue, where the listener is in this network namespace.
    pub listener: Option<Box<dyn ListenerSampler + Send>>,
    /// Interval between two samples of the accept queue.
    pub period: Duration,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { server_pid: None, cpus: None, listener: None, period: Duration::from_millis(10) }
    }
}

impl std::fmt::Debug for SamplerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SamplerOptions")
            .field("server_pid", &self.server_pid)
            .field("cpus", &self.cpus)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// A running evidence thread.
#[derive(Debug)]
pub struct Sampler {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Evidence>,
}

impl Sampler {
    /// Starts the thread and waits until it has taken the first readings.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: SamplerOptions) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        // The first readings must be taken before the run's first connections.
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("evidence".into()).spawn(move || {
            let mut run = Readings::begin(options);
            if ready.send(()).is_ok() {
                run.sample_until(&stopped);
            }
            run.end()
        })?;
        is_ready.recv().map_err(io::Error::other)?;
        Ok(Self { stop, thread })
    }

    /// Takes the last readings and ends the thread.
    ///
    /// # Errors
    /// When the evidence thread panicked.
    pub fn finish(self) -> io::Result<Evidence> {
        // Dropping the sender disconnects the channel, which ends the thread's loop; unlike a send
        // it cannot fail when the thread has ended already.
        drop(self.stop);
        self.thread.join().map_err(|_| io::Error::other("the evidence thread panicked"))
    }
}

/// Samples of the accept queue per sample of the slower sources (conntrack, CPU time).
const SLOW_EVERY: u32 = 10;

struct Readings {
    began: Instant,
    period: Duration,
    counters: Option<KernelCounters>,
    losses: Option<Losses>,
    conntrack: Option<Conntrack>,
    generator: Option<CpuMeter>,
    server: Option<CpuMeter>,
    queue: Option<QueueMeter>,
    unreadable: Vec<String>,
}

impl Readings {
    fn begin(options: SamplerOptions) -> Self {
        let mut unreadable = Vec::new();
        yield_to_generator(options.cpus.as_deref(), &mut unreadable);
        let own = CpuMeter::start(std::process::id());
        let generator = or_unreadable(own, "own CPU time", &mut unreadable);
        let server = options.server_pid.and_then(|pid| {
            or_unreadable(CpuMeter::start(pid), "CPU time of the server", &mut unreadable)
        });
        let counters = or_unreadable(read_counters(), "TCP counters", &mut unreadable);
        Self {
            began: Instant::now(),
            period: options.period,
            counters,
            losses: Losses::read(),
            conntrack: read_conntrack(),
            generator,
            server,
            queue: options.listener.map(QueueMeter::new),
            unreadable,
        }
    }

    fn sample_until(&mut self, stopped: &mpsc::Receiver<()>) {
        let mut samples: u32 = 0;
        while stopped.recv_timeout(self.period) == Err(RecvTimeoutError::Timeout) {
            samples = samples.wrapping_add(1);
            if let Some(queue) = &mut self.queue {
                queue.sample();
            }
            if samples.is_multiple_of(SLOW_EVERY) {
                self.sample_slow();
            }
        }
    }

    fn sample_slow(&mut self) {
        if let (Some(table), Some(now)) = (&mut self.conntrack, conntrack::usage()) {
            table.count_peak = table.count_peak.max(now.count);
            table.count_end = now.count;
        }
        for meter in [&mut self.generator, &mut self.server].into_iter().flatten() {
            // A process that has ended keeps its last readings.
            if let Err(error) = meter.sample()
                && error.kind() != io::ErrorKind::NotFound
            {
                self.unreadable.push(format!("CPU time: {error}"));
            }
        }
    }

    fn end(mut self) -> Evidence {
        self.sample_slow();
        let elapsed = self.began.elapsed();
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let after = or_unreadable(read_counters(), "TCP counters", &mut self.unreadable);
        let accept_queue = self.queue.and_then(|queue| queue.finish(&mut self.unreadable));
        self.unreadable.dedup();
        Evidence {
            elapsed_ns,
            kernel: after.zip(self.counters).map(|(after, before)| after.since(&before)),
            accept_queue,
            conntrack: self.conntrack.map(|c| with_losses(c, self.losses, Losses::read())),
            generator_cpu: self.generator.map(|meter| meter.total(elapsed_ns)),
            server_cpu: self.server.map(|meter| meter.total(elapsed_ns)),
            retransmission_schedule: None,
            samples_missed: 0,
            settings: settings::read(),
            unreadable: self.unreadable,
        }
    }
}

struct QueueMeter {
    listener: Box<dyn ListenerSampler + Send>,
    evidence: QueueEvidence,
    depth_sum: u64,
    first_error: Option<io::Error>,
}

impl QueueMeter {
    fn new(listener: Box<dyn ListenerSampler + Send>) -> Self {
        let evidence = QueueEvidence::default();
        let mut meter = Self { listener, evidence, depth_sum: 0, first_error: None };
        meter.sample();
        meter
    }

    fn sample(&mut self) {
        match self.listener.sample() {
            Ok(depth) => {
                self.evidence.samples += 1;
                self.evidence.listeners = self.evidence.listeners.max(depth.listeners);
                self.evidence.limit = self.evidence.limit.max(depth.limit);
                self.evidence.depth_max = self.evidence.depth_max.max(depth.queued_max);
                self.depth_sum += u64::from(depth.queued);
            }
            Err(error) => {
                self.evidence.samples_failed += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn finish(self, unreadable: &mut Vec<String>) -> Option<QueueEvidence> {
        if let Some(error) = self.first_error {
            unreadable.push(format!("accept queue: {error}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
        let mean = self.depth_sum as f64 / self.evidence.samples as f64;
        (self.evidence.samples > 0).then_some(QueueEvidence { depth_mean: mean, ..self.evidence })
    }
}

/// Sets the lowest priority and the given CPUs, so that this thread takes no CPU time that the
/// generator threads need.
fn yield_to_generator(cpus: Option<&[usize]>, unreadable: &mut Vec<String>) {
    // On Linux a thread's nice value is its own (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::nice(19) {
        unreadable.push(format!("priority of the evidence thread: {error}"));
    }
    let Some(cpus) = cpus else { return };
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        unreadable.push(format!("CPUs of the evidence thread: {error}"));
    }
}

/// The value; an error is appended to `unreadable`, with `what` was read.
fn or_unreadable<T>(read: io::Result<T>, what: &str, unreadable: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| unreadable.push(format!("{what}: {error}"))).ok()
}

fn read_counters() -> io::Result<KernelCounters> {
    let netstat = fs::read_to_string("/proc/net/netstat")?;
    let snmp = fs::read_to_string("/proc/net/snmp")?;
    counters::parse(&netstat, &snmp)
        .ok_or_else(|| io::Error::other("/proc/net/netstat has an unknown form"))
}

fn read_conntrack() -> Option<Conntrack> {
    let conntrack::Usage { count, limit } = conntrack::usage()?;
    Some(Conntrack {
        count_start: count,
        count_peak: count,
        count_end: count,
        limit,
        ..Conntrack::default()
    })
}

fn with_losses(table: Conntrack, before: Option<Losses>, after: Option<Losses>) -> Conntrack {
    let Some((before, after)) = before.zip(after) else { return table };
    Conntrack {
        drop: after.drop.saturating_sub(before.drop),
        insert_failed: after.insert_failed.saturating_sub(before.insert_failed),
        early_drop: after.early_drop.saturating_sub(before.early_drop),
        ..table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::QueueDepth;

    struct FakeListener(Vec<io::Result<QueueDepth>>);

    impl ListenerSampler for FakeListener {
        fn sample(&mut self) -> io::Result<QueueDepth> {
            self.0.pop().unwrap_or_else(|| Err(io::Error::other("over")))
        }
    }

    fn depth(queued: u32) -> io::Result<QueueDepth> {
        Ok(QueueDepth { listeners: 2, queued, queued_max: queued - 1, limit: 128 })
    }

    #[test]
    fn depth_is_averaged_over_the_samples_that_succeeded() {
        let listener = FakeListener(vec![depth(9), Err(io::Error::other("once")), depth(3)]);
        let mut meter = QueueMeter::new(Box::new(listener));
        meter.sample();
        meter.sample();
        let mut unreadable = Vec::new();
        let evidence = meter.finish(&mut unreadable).unwrap();
        assert_eq!((evidence.depth_max, evidence.depth_mean), (8, 6.0));
        assert_eq!((evidence.samples, evidence.samples_failed, evidence.limit), (2, 1, 128));
        assert_eq!(unreadable, ["accept queue: once"]);
    }

    #[test]
    fn a_queue_whose_samples_all_fail_is_unreadable() {
        let mut unreadable = Vec::new();
        let meter = QueueMeter::new(Box::new(FakeListener(vec![])));
        assert_eq!(meter.finish(&mut unreadable), None);
        assert_eq!(unreadable, ["accept queue: over"]);
    }

    #[test]
    fn a_sampler_returns_its_evidence_when_it_is_finished() {
        let listener = FakeListener(vec![depth(2)]);
        let options = SamplerOptions {
            server_pid: Some(std::process::id()),
            listener: Some(Box::new(listener)),
            ..SamplerOptions::default()
        };
        let evidence = Sampler::start(options).unwrap().finish().unwrap();
        assert!(evidence.kernel.is_some());
        assert!(evidence.generator_cpu.is_some() && evidence.server_cpu.is_some());
        assert_eq!(evidence.accept_queue.unwrap().depth_max, 1);
    }
}
