//! A core with one worker: what it does costs time, a wake-up takes a while, a quota stops it, a
//! neighbour takes turns with it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use uring_echo::engine::busy_poll::Wait;
use uring_echo::engine::busy_poll::budget::Share;
use uring_echo::engine::busy_poll::quota::QuotaPolicy;
use uring_echo::sys::cpu_quota::CpuUse;

use super::candidates::{Candidate, Policy};
use super::traces::{TURNAROUND_NS, Trace, whole};

/// CPU time of one event.
const WORK_NS: u64 = 7_000;
/// CPU time of falling asleep and waking.
const SLEEP_CPU_NS: u64 = 3_000;
/// Period of the quota, and the time slice of the neighbour.
const PERIOD_NS: u64 = 100_000_000;
const SLICE_NS: u64 = 3_000_000;

/// What the worker runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// From an event to the sleeping worker's first instruction.
    pub(crate) wake_up_ns: u64,
    /// CPU time for each period, in cores.
    pub(crate) quota: Option<f64>,
    /// A CPU-bound neighbour: whoever has used up its slice waits for the other's.
    pub(crate) hog: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self { wake_up_ns: 35_000, quota: None, hog: false }
    }
}

/// What a policy cost and brought.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// CPU time over time.
    pub(crate) cores: f64,
    /// Periods in which the quota stopped the worker.
    pub(crate) throttled: u64,
    /// From each arrival to the end of its handling, sorted, in nanoseconds.
    delays: Vec<u64>,
}

impl Outcome {
    pub(crate) fn delay_us(&self, percentile: f64) -> f64 {
        let at = whole(self.delays.len() as f64 * percentile / 100.0);
        let at = usize::try_from(at).expect("an index");
        self.delays[at.min(self.delays.len() - 1)] as f64 / 1000.0
    }
}

struct Core {
    machine: Machine,
    now: u64,
    cpu_ns: u64,
    slice_left: u64,
    period: u64,
    used_in_period: u64,
    throttled: u64,
}

impl Core {
    /// Uses CPU time; true if the worker was preempted in it.
    fn use_cpu(&mut self, mut ns: u64) -> bool {
        let mut preempted = false;
        while ns > 0 {
            preempted |= self.wait_for_quota() | self.wait_for_neighbour();
            let step = ns.min(100_000);
            self.now += step;
            self.cpu_ns += step;
            self.used_in_period += step;
            self.slice_left = self.slice_left.saturating_sub(step);
            ns -= step;
        }
        preempted
    }

    fn wait_for_quota(&mut self) -> bool {
        let Some(quota) = self.machine.quota else { return false };
        if self.now / PERIOD_NS != self.period {
            (self.period, self.used_in_period) = (self.now / PERIOD_NS, 0);
        }
        if self.used_in_period < whole(quota * PERIOD_NS as f64) {
            return false;
        }
        self.throttled += 1;
        self.now = (self.period + 1) * PERIOD_NS;
        (self.period, self.used_in_period) = (self.period + 1, 0);
        true
    }

    fn wait_for_neighbour(&mut self) -> bool {
        if !self.machine.hog || self.slice_left > 0 {
            return false;
        }
        self.slice_left = SLICE_NS;
        self.now += SLICE_NS;
        true
    }
}

/// Runs `candidate` under this load.
pub(crate) fn run(candidate: Candidate, trace: Trace, machine: Machine) -> Outcome {
    let mut simulation = Simulation::new(candidate, trace, machine);
    while simulation.step() {}
    let Simulation { core, mut delays, .. } = simulation;
    delays.sort_unstable();
    let cores = core.cpu_ns as f64 / core.now as f64;
    Outcome { cores, throttled: core.throttled, delays }
}

struct Simulation {
    core: Core,
    policy: Policy,
    /// When what arrives, and how many messages its client sends after it.
    arrivals: BinaryHeap<Reverse<(u64, u32)>>,
    delays: Vec<u64>,
    quota: QuotaPolicy,
    observed: u64,
    spun_ns: u64,
    most: Share,
}

impl Simulation {
    fn new(candidate: Candidate, trace: Trace, machine: Machine) -> Self {
        let arrivals = trace.clients().into_iter().map(|at| Reverse((at, trace.messages)));
        let (now, slice_left) = (0, SLICE_NS);
        let (cpu_ns, period, used_in_period, throttled) = (0, 0, 0, 0);
        let core = Core { machine, now, cpu_ns, slice_left, period, used_in_period, throttled };
        let policy = Policy::new(candidate);
        let (quota, most) = (QuotaPolicy::new(1), Share::WHOLE);
        let (arrivals, delays) = (arrivals.collect(), Vec::new());
        Self { core, policy, arrivals, delays, quota, observed: 0, spun_ns: 0, most }
    }

    /// Waits for the next arrival and handles it; false if there is none.
    fn step(&mut self) -> bool {
        let Some(Reverse((at, messages))) = self.arrivals.pop() else { return false };
        if at > self.core.now {
            self.observe_quota();
            let wait = self.wait_until(at);
            self.policy.record_wait(wait);
        }
        self.core.use_cpu(WORK_NS);
        self.delays.push(self.core.now - at);
        if messages > 0 {
            self.arrivals.push(Reverse((self.core.now + TURNAROUND_NS, messages - 1)));
        }
        true
    }

    fn wait_until(&mut self, at: u64) -> Wait {
        let start = self.core.now;
        let mut spun_ns = 0;
        while self.core.now < at {
            let spin = self.policy.spin(self.core.now, self.core.cpu_ns, self.most);
            let ns = spin.ns.min(at - self.core.now);
            let preempted = self.core.use_cpu(ns);
            self.spun_ns += ns;
            spun_ns += ns;
            if preempted {
                self.policy.record_preemption(self.core.now);
            }
            if self.core.now < at && spin.then_sleep {
                self.core.now = at + self.core.machine.wake_up_ns;
                // The scheduler gives a thread that wakes a new slice (EEVDF, place_entity).
                self.core.slice_left = SLICE_NS;
                self.core.use_cpu(SLEEP_CPU_NS);
                return Wait { ns: self.core.now - start, spun_ns, slept: true };
            }
        }
        Wait { ns: self.core.now - start, spun_ns, slept: false }
    }

    fn observe_quota(&mut self) {
        let Some(quota) = self.core.machine.quota else { return };
        if self.observed > 0 && self.core.now - self.observed < PERIOD_NS {
            return;
        }
        self.observed = self.core.now;
        let throttled = self.core.throttled;
        let millicores = Some(whole(quota * 1000.0));
        let group = CpuUse { millicores, throttled, used_ns: None };
        let (now, used) = (self.core.now, self.core.cpu_ns);
        self.most = self.quota.observe(now, used, self.spun_ns, &[group]);
    }
}
