//! The thread that reads the evidence: low priority, a few looks per second at most things.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::cpu::CpuMeter;
use super::{ListenerProbe, counters, settings};
use uring_echo::sys::conntrack::{self, Losses};

use crate::model::evidence::{Conntrack, Evidence, KernelCounters, QueueEvidence};

/// What a [`Sampler`] looks at.
pub struct SamplerOptions {
    /// The server's process, where it is known and visible.
    pub server_pid: Option<u32>,
    /// CPUs to stay on; `None` leaves it to the scheduler.
    pub cpus: Option<Vec<usize>>,
    /// The accept queue, where the listener is in this network namespace.
    pub listener: Option<Box<dyn ListenerProbe + Send>>,
    /// Distance of looks at the accept queue.
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
    /// Takes the first readings, on the thread it starts.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: SamplerOptions) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        // Readings before the run must not come after its first connections.
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

    /// Takes the last readings.
    ///
    /// # Errors
    /// When the evidence thread failed.
    pub fn finish(self) -> io::Result<Evidence> {
        // Dropping the sender is the signal; it also works when nobody listens any more.
        drop(self.stop);
        self.thread.join().map_err(|_| io::Error::other("the evidence thread panicked"))
    }
}

/// Looks at the accept queue between two looks at everything slower.
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
        settle(options.cpus.as_deref(), &mut unreadable);
        let generator = note(CpuMeter::start(std::process::id()), "own CPU time", &mut unreadable);
        let server = options
            .server_pid
            .and_then(|pid| note(CpuMeter::start(pid), "CPU time of the server", &mut unreadable));
        let counters = note(read_counters(), "TCP counters", &mut unreadable);
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
            // A process that ended keeps the times it was last seen with.
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
        let after = note(read_counters(), "TCP counters", &mut self.unreadable);
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
    probe: Box<dyn ListenerProbe + Send>,
    seen: QueueEvidence,
    depth_sum: u64,
    first_error: Option<io::Error>,
}

impl QueueMeter {
    fn new(probe: Box<dyn ListenerProbe + Send>) -> Self {
        let mut meter =
            Self { probe, seen: QueueEvidence::default(), depth_sum: 0, first_error: None };
        meter.sample();
        meter
    }

    fn sample(&mut self) {
        match self.probe.sample() {
            Ok(depth) => {
                self.seen.samples += 1;
                self.seen.listeners = self.seen.listeners.max(depth.listeners);
                self.seen.limit = self.seen.limit.max(depth.limit);
                self.seen.depth_max = self.seen.depth_max.max(depth.queued_max);
                self.depth_sum += u64::from(depth.queued);
            }
            Err(error) => {
                self.seen.samples_failed += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn finish(self, unreadable: &mut Vec<String>) -> Option<QueueEvidence> {
        if let Some(error) = self.first_error {
            unreadable.push(format!("accept queue: {error}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
        let mean = self.depth_sum as f64 / self.seen.samples as f64;
        (self.seen.samples > 0).then_some(QueueEvidence { depth_mean: mean, ..self.seen })
    }
}

/// Out of the generator's way: lowest priority, on the CPUs given.
fn settle(cpus: Option<&[usize]>, unreadable: &mut Vec<String>) {
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

fn note<T>(read: io::Result<T>, what: &str, unreadable: &mut Vec<String>) -> Option<T> {
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

    struct Script(Vec<io::Result<QueueDepth>>);

    impl ListenerProbe for Script {
        fn sample(&mut self) -> io::Result<QueueDepth> {
            self.0.pop().unwrap_or_else(|| Err(io::Error::other("over")))
        }
    }

    fn depth(queued: u32) -> io::Result<QueueDepth> {
        Ok(QueueDepth { listeners: 2, queued, queued_max: queued - 1, limit: 128 })
    }

    #[test]
    fn depth_is_averaged_over_the_samples_that_succeeded() {
        let script = Script(vec![depth(9), Err(io::Error::other("once")), depth(3)]);
        let mut meter = QueueMeter::new(Box::new(script));
        meter.sample();
        meter.sample();
        let mut unreadable = Vec::new();
        let seen = meter.finish(&mut unreadable).unwrap();
        assert_eq!((seen.depth_max, seen.depth_mean), (8, 6.0));
        assert_eq!((seen.samples, seen.samples_failed, seen.limit), (2, 1, 128));
        assert_eq!(unreadable, ["accept queue: once"]);
    }

    #[test]
    fn a_probe_that_never_answers_leaves_a_note_instead_of_numbers() {
        let mut unreadable = Vec::new();
        assert_eq!(QueueMeter::new(Box::new(Script(vec![]))).finish(&mut unreadable), None);
        assert_eq!(unreadable, ["accept queue: over"]);
    }

    #[test]
    fn a_sampler_starts_and_stops() {
        let probe = Script(vec![depth(2)]);
        let options = SamplerOptions {
            server_pid: Some(std::process::id()),
            listener: Some(Box::new(probe)),
            ..SamplerOptions::default()
        };
        let evidence = Sampler::start(options).unwrap().finish().unwrap();
        assert!(evidence.kernel.is_some());
        assert!(evidence.generator_cpu.is_some() && evidence.server_cpu.is_some());
        assert_eq!(evidence.accept_queue.unwrap().depth_max, 1);
    }
}
