//! CPU time and run delay of processes from their threads' `schedstat`, in nanoseconds (`stat`
//! counts ticks).

use std::collections::BTreeMap;
use std::{fs, io, thread};

use crate::model::evidence::{CpuUse, RunDelay};

/// Adds up what the threads of some processes used and waited for. A thread that has ended keeps
/// its last reading.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    pids: Vec<u32>,
    threads: BTreeMap<u32, ThreadTime>,
}

#[derive(Debug, Clone, Copy)]
struct ThreadTime {
    first: Schedstat,
    last: Schedstat,
}

/// The first two of the three numbers (Documentation/scheduler/sched-stats.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Schedstat {
    /// Time on a CPU.
    ran_ns: u64,
    /// Time runnable without a CPU.
    waited_ns: u64,
}

impl CpuMeter {
    /// Takes the first reading; later ones count from it.
    pub(crate) fn start(pids: Vec<u32>) -> io::Result<Self> {
        let mut meter = Self { pids, threads: BTreeMap::new() };
        meter.sample()?;
        Ok(meter)
    }

    /// Takes another reading. Threads that began after the first one count from zero.
    pub(crate) fn sample(&mut self) -> io::Result<()> {
        let first_sample = self.threads.is_empty();
        for pid in self.pids.clone() {
            self.sample_threads_of(pid, first_sample)?;
        }
        Ok(())
    }

    fn sample_threads_of(&mut self, pid: u32, first_sample: bool) -> io::Result<()> {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let Some(tid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
            // There may be thousands, and somebody may wait for this CPU.
            thread::yield_now();
            // A thread may end between the listing and this read: its last reading is kept.
            let Some(now) = read_schedstat(pid, tid) else { continue };
            let first = if first_sample { now } else { Schedstat::default() };
            self.threads.entry(tid).or_insert(ThreadTime { first, last: now }).last = now;
        }
        Ok(())
    }

    /// CPU time since the first reading, as a total and as a share of `elapsed_ns`.
    pub(crate) fn total(&self, elapsed_ns: u64) -> CpuUse {
        let times = || self.since_first(|stat| stat.ran_ns);
        let cpu_ns = times().sum();
        CpuUse {
            cpu_ns,
            cores: ratio(cpu_ns, elapsed_ns),
            busiest_thread_cores: ratio(times().max().unwrap_or(0), elapsed_ns),
            threads: u32::try_from(self.threads.len()).unwrap_or(u32::MAX),
        }
    }

    /// Time since the first reading that the threads waited for a CPU.
    pub(crate) fn run_delay(&self, generator_shares_cpus: bool) -> RunDelay {
        let waits = || self.since_first(|stat| stat.waited_ns);
        let (total_ns, longest_thread_ns) = (waits().sum(), waits().max().unwrap_or(0));
        let held_by_generator_ns = None;
        RunDelay { total_ns, longest_thread_ns, generator_shares_cpus, held_by_generator_ns }
    }

    fn since_first(&self, of: impl Fn(&Schedstat) -> u64) -> impl Iterator<Item = u64> {
        self.threads.values().map(move |t| of(&t.last).saturating_sub(of(&t.first)))
    }
}

fn read_schedstat(pid: u32, tid: u32) -> Option<Schedstat> {
    parse_schedstat(&fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?)
}

fn parse_schedstat(text: &str) -> Option<Schedstat> {
    let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
    Some(Schedstat { ran_ns: numbers.next()?, waited_ns: numbers.next()? })
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(ran_ns: u64, waited_ns: u64) -> Schedstat {
        Schedstat { ran_ns, waited_ns }
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_cpu_and_the_wait_for_one() {
        assert_eq!(parse_schedstat("529378 77425 1\n"), Some(stat(529_378, 77_425)));
        assert_eq!(parse_schedstat("529378"), None);
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn threads_that_ended_keep_their_time() {
        let ended = ThreadTime { first: stat(100, 5), last: stat(400, 6) };
        let new = ThreadTime { first: stat(0, 0), last: stat(700, 9) };
        let meter = CpuMeter { pids: vec![1], threads: BTreeMap::from([(7, ended), (8, new)]) };
        let total = meter.total(2000);
        assert_eq!((total.cpu_ns, total.threads), (1000, 2));
        assert_eq!((total.cores, total.busiest_thread_cores), (0.5, 0.35));
        let waited = meter.run_delay(true);
        assert_eq!((waited.total_ns, waited.longest_thread_ns), (10, 9));
    }

    #[test]
    fn the_threads_of_this_process_are_read() {
        let mut meter = CpuMeter::start(vec![std::process::id()]).unwrap();
        meter.sample().unwrap();
        assert!(meter.total(1_000_000_000).threads >= 1);
    }
}
