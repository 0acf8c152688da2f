//! The thread that samples the evidence of the measured part of a run.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use super::cpu::CpuMeter;
use super::queue::QueueMeter;
use super::throttling::QuotaMeter;
use super::{ListenerSampler, counters, settings};
use uring_echo::clock::monotonic_ns;
use uring_echo::sys::conntrack::{self, Losses};

use crate::model::evidence::{Conntrack, Evidence, KernelCounters};
use crate::sys::time::nanos;

/// What a [`Sampler`] samples.
pub struct SamplerOptions {
    /// The server's process ids, where they are known and visible.
    pub server_pids: Vec<u32>,
    /// Whether threads of the generator could run on a CPU of the server.
    pub generator_shares_cpus: bool,
    /// CPUs of the evidence thread; `None` leaves the choice to the scheduler.
    pub cpus: Option<Vec<usize>>,
    /// The accept queue, where the listener is in this network namespace.
    pub listener: Option<Box<dyn ListenerSampler + Send>>,
    /// Interval between two samples of the accept queue.
    pub period: Duration,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            server_pids: Vec::new(),
            generator_shares_cpus: false,
            cpus: None,
            listener: None,
            period: Duration::from_millis(10),
        }
    }
}

impl std::fmt::Debug for SamplerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SamplerOptions")
            .field("server_pids", &self.server_pids)
            .field("cpus", &self.cpus)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// A running evidence thread.
#[derive(Debug)]
pub struct Sampler {
    /// Says what part is measured; closing it ends the thread.
    measured: mpsc::Sender<MeasuredFrom>,
    thread: JoinHandle<Evidence>,
}

/// The begin of the load and of its measured part, monotonic nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredFrom {
    /// First scheduled arrival.
    pub load_began_ns: u64,
    /// End of the warm-up.
    pub measured_from_ns: u64,
}

impl Sampler {
    /// Starts the thread, which waits for [`begin`](Self::begin).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: SamplerOptions) -> io::Result<Self> {
        let (measured, told) = mpsc::channel();
        let thread =
            thread::Builder::new().name("evidence".into()).spawn(move || sample(options, &told))?;
        Ok(Self { measured, thread })
    }

    /// Says when the measured part begins. The first readings are taken just before it, so that
    /// they include neither the set-up nor the warm-up, and all of the first connection.
    pub fn begin(&self, measured: MeasuredFrom) {
        // A thread that has panicked tells so when it is joined.
        self.measured.send(measured).unwrap_or_default();
    }

    /// Takes the last readings and ends the thread.
    ///
    /// # Errors
    /// When the evidence thread panicked.
    pub fn finish(self) -> io::Result<Evidence> {
        drop(self.measured);
        self.thread.join().map_err(|_| io::Error::other("the evidence thread panicked"))
    }
}

/// The life of the thread. A run that ends before its measured part has no evidence.
fn sample(options: SamplerOptions, told: &mpsc::Receiver<MeasuredFrom>) -> Evidence {
    let mut unreadable = Vec::new();
    stay_on(options.cpus.as_deref(), &mut unreadable);
    let Ok(measured) = told.recv() else { return Evidence { unreadable, ..Evidence::default() } };
    let first_ns = measured.measured_from_ns.saturating_sub(EARLY_NS);
    if !sleep_until(first_ns, told) {
        return Evidence { unreadable, ..Evidence::default() };
    }
    let mut readings = Readings::begin(options, measured.load_began_ns, unreadable);
    readings.sample_until_the_end(told);
    readings.end()
}

/// False if the run has ended meanwhile.
fn sleep_until(at_ns: u64, told: &mpsc::Receiver<MeasuredFrom>) -> bool {
    let left = Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()));
    told.recv_timeout(left) != Err(RecvTimeoutError::Disconnected)
}

/// The first readings are this much earlier than the first connection that they count.
const EARLY_NS: u64 = 10_000_000;
/// Samples of the accept queue per sample of the slower sources (conntrack, CPU time).
const SLOW_EVERY: u64 = 10;

struct Readings {
    load_began_ns: u64,
    began_ns: u64,
    period_ns: u64,
    generator_shares_cpus: bool,
    counters: Option<KernelCounters>,
    losses: Option<Losses>,
    conntrack: Option<Conntrack>,
    generator: Option<CpuMeter>,
    server: Option<CpuMeter>,
    queue: Option<QueueMeter>,
    quota: QuotaMeter,
    server_quota: Option<QuotaMeter>,
    unreadable: Vec<String>,
}

impl Readings {
    fn begin(options: SamplerOptions, load_began_ns: u64, mut unreadable: Vec<String>) -> Self {
        let own = CpuMeter::start(vec![std::process::id()]);
        let generator = or_unreadable(own, "own CPU time", &mut unreadable);
        let quota = QuotaMeter::start(std::process::id());
        let server_quota = options.server_pids.first().copied().map(QuotaMeter::start);
        let server =
            (!options.server_pids.is_empty()).then(|| CpuMeter::start(options.server_pids));
        let server = server
            .and_then(|meter| or_unreadable(meter, "CPU time of the server", &mut unreadable));
        let counters = or_unreadable(read_counters(), "TCP counters", &mut unreadable);
        let period_ns = nanos(options.period).max(1);
        let mut readings = Self {
            load_began_ns,
            began_ns: monotonic_ns(),
            period_ns,
            generator_shares_cpus: options.generator_shares_cpus,
            counters,
            losses: Losses::read(),
            conntrack: read_conntrack(),
            generator,
            server,
            queue: options.listener.map(|listener| QueueMeter::new(listener, period_ns)),
            quota,
            server_quota,
            unreadable,
        };
        readings.sample_queue();
        readings
    }

    /// One sample is due in each period, so that a late one does not delay the others.
    fn sample_until_the_end(&mut self, told: &mpsc::Receiver<MeasuredFrom>) {
        let mut tick = 1;
        while sleep_until(self.began_ns.saturating_add(due_after_ns(tick, self.period_ns)), told) {
            self.sample_queue();
            if tick.is_multiple_of(SLOW_EVERY) {
                self.sample_slow();
            }
            tick = (tick + 1).max(self.elapsed_ns() / self.period_ns + 1);
        }
    }

    fn elapsed_ns(&self) -> u64 {
        monotonic_ns().saturating_sub(self.began_ns)
    }

    fn sample_queue(&mut self) {
        let at_ns = monotonic_ns().saturating_sub(self.load_began_ns);
        if let Some(queue) = &mut self.queue {
            queue.sample(at_ns);
        }
    }

    fn sample_slow(&mut self) {
        if let (Some(table), Some(now)) = (&mut self.conntrack, conntrack::usage()) {
            table.count_peak = table.count_peak.max(now.count);
            table.count_end = now.count;
        }
        for meter in [&mut self.generator, &mut self.server].into_iter().flatten() {
            // Somebody may have waited for this CPU.
            thread::yield_now();
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
        let elapsed_ns = self.elapsed_ns();
        let after = or_unreadable(read_counters(), "TCP counters", &mut self.unreadable);
        let wanted = wanted(elapsed_ns, self.period_ns);
        let unreadable = &mut self.unreadable;
        let accept_queue = self.queue.and_then(|queue| queue.finish(wanted, unreadable));
        self.unreadable.dedup();
        let shares = self.generator_shares_cpus;
        Evidence {
            elapsed_ns,
            from_ns: Some(self.began_ns.saturating_sub(self.load_began_ns)),
            kernel: after.zip(self.counters).map(|(after, before)| after.since(&before)),
            accept_queue,
            conntrack: self.conntrack.map(|c| with_losses(c, self.losses, Losses::read())),
            generator_cpu: self.generator.map(|meter| meter.total(elapsed_ns)),
            server_cpu: self.server.as_ref().map(|meter| meter.total(elapsed_ns)),
            server_run_delay: self.server.map(|meter| meter.run_delay(shares)),
            retransmission_schedule: None,
            unaccepted: None,
            generator_throttled: self.quota.since_begin(),
            server_throttled: self.server_quota.and_then(|quota| quota.since_begin()),
            samples_missed: 0,
            settings: settings::read(),
            unreadable: self.unreadable,
        }
    }
}

/// When the sample of a period is due, from the begin: at another part of each. A load with the
/// same period would otherwise be sampled, and disturbed, at always the same instant of its own.
fn due_after_ns(tick: u64, period_ns: u64) -> u64 {
    // Multiples of the golden ratio, modulo 1, are spread evenly however many there are.
    let part = tick.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let into = (u128::from(period_ns) * u128::from(part)) >> 32;
    tick * period_ns + u64::try_from(into).unwrap_or(0)
}

/// Samples that were due by now.
fn wanted(elapsed_ns: u64, period_ns: u64) -> u64 {
    let periods = elapsed_ns / period_ns;
    periods + u64::from(due_after_ns(periods, period_ns) <= elapsed_ns)
}

/// Moves this thread to the given CPUs. It keeps its priority: beside a generator thread that never
/// sleeps a lower one would cost it a third of its samples.
fn stay_on(cpus: Option<&[usize]>, unreadable: &mut Vec<String>) {
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

    struct OneWaits;

    impl ListenerSampler for OneWaits {
        fn sample(&mut self) -> io::Result<QueueDepth> {
            Ok(QueueDepth { listeners: 1, queued: 2, queued_max: 1, limit: 128, drops: 7 })
        }
    }

    fn options() -> SamplerOptions {
        SamplerOptions {
            server_pids: vec![std::process::id()],
            listener: Some(Box::new(OneWaits)),
            ..SamplerOptions::default()
        }
    }

    #[test]
    fn a_sampler_returns_its_evidence_when_it_is_finished() {
        let sampler = Sampler::start(options()).unwrap();
        let load_began_ns = monotonic_ns();
        sampler.begin(MeasuredFrom { load_began_ns, measured_from_ns: load_began_ns });
        let told = std::time::Instant::now();
        while told.elapsed() < Duration::from_millis(100) {
            thread::sleep(Duration::from_millis(20));
        }
        let evidence = sampler.finish().unwrap();
        assert!(evidence.kernel.is_some());
        assert!(evidence.generator_cpu.is_some() && evidence.server_cpu.is_some());
        assert!(evidence.server_run_delay.is_some());
        let queue = evidence.accept_queue.unwrap();
        assert_eq!((queue.depth_max, queue.depth_mean), (1, 2.0));
        assert!(queue.samples_wanted >= Some(queue.samples) && queue.samples > 1, "{queue:?}");
    }

    #[test]
    fn each_period_has_one_sample_and_each_at_another_part() {
        let due: Vec<u64> = (0..1000).map(|tick| due_after_ns(tick, 1000)).collect();
        assert_eq!(due[0], 0);
        assert!(due.iter().zip(0..).all(|(due, period)| due / 1000 == period));
        let tenths: Vec<usize> = (0..10)
            .map(|tenth| due.iter().filter(|due| *due % 1000 / 100 == tenth).count())
            .collect();
        assert!(tenths.iter().all(|count| (95..=105).contains(count)), "{tenths:?}");
        assert_eq!((wanted(0, 1000), wanted(due[7], 1000), wanted(due[7] - 1, 1000)), (1, 8, 7));
    }

    #[test]
    fn the_warm_up_is_not_in_the_evidence() {
        let sampler = Sampler::start(options()).unwrap();
        let load_began_ns = monotonic_ns();
        let measured_from_ns = load_began_ns + 60_000_000;
        sampler.begin(MeasuredFrom { load_began_ns, measured_from_ns });
        while monotonic_ns() < measured_from_ns + 20_000_000 {
            thread::sleep(Duration::from_millis(5));
        }
        let evidence = sampler.finish().unwrap();
        assert!(evidence.from_ns >= Some(60_000_000 - EARLY_NS), "{:?}", evidence.from_ns);
        let first = evidence.accept_queue.unwrap().series[0];
        assert!(first.at_ns >= 60_000_000 - EARLY_NS, "{first:?}");
    }

    #[test]
    fn a_run_that_ends_in_its_warm_up_has_no_evidence() {
        let sampler = Sampler::start(options()).unwrap();
        let load_began_ns = monotonic_ns();
        let measured_from_ns = load_began_ns + 3_600_000_000_000;
        sampler.begin(MeasuredFrom { load_began_ns, measured_from_ns });
        assert_eq!(sampler.finish().unwrap(), Evidence::default());
    }
}
