//! CPU time of a process from its threads' `schedstat`, in nanoseconds (`stat` counts ticks).

use std::collections::BTreeMap;
use std::{fs, io};

use crate::model::evidence::CpuUse;

/// Adds up the CPU time of the threads of one process. A thread that has ended keeps its last
/// reading.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    pid: u32,
    threads: BTreeMap<u32, ThreadTime>,
}

#[derive(Debug, Clone, Copy)]
struct ThreadTime {
    first_ns: u64,
    last_ns: u64,
}

impl CpuMeter {
    /// Takes the first reading; later ones count from it.
    pub(crate) fn start(pid: u32) -> io::Result<Self> {
        let mut meter = Self { pid, threads: BTreeMap::new() };
        meter.sample()?;
        Ok(meter)
    }

    /// Takes another reading. Threads that began after the first one count from zero.
    pub(crate) fn sample(&mut self) -> io::Result<()> {
        let first_sample = self.threads.is_empty();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let name = entry?.file_name();
            let Some(tid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
            // A thread may end between the listing and this read: its last reading is kept.
            let Some(now_ns) = self.thread_time(tid) else { continue };
            let first_ns = if first_sample { now_ns } else { 0 };
            let time = self.threads.entry(tid).or_insert(ThreadTime { first_ns, last_ns: 0 });
            time.last_ns = now_ns;
        }
        Ok(())
    }

    /// CPU time since the first reading, as a total and as a share of `elapsed_ns`.
    pub(crate) fn total(&self, elapsed_ns: u64) -> CpuUse {
        let times = || self.threads.values().map(|t| t.last_ns.saturating_sub(t.first_ns));
        let cpu_ns = times().sum();
        CpuUse {
            cpu_ns,
            cores: ratio(cpu_ns, elapsed_ns),
            busiest_thread_cores: ratio(times().max().unwrap_or(0), elapsed_ns),
            threads: u32::try_from(self.threads.len()).unwrap_or(u32::MAX),
        }
    }

    fn thread_time(&self, tid: u32) -> Option<u64> {
        let path = format!("/proc/{}/task/{tid}/schedstat", self.pid);
        parse_schedstat(&fs::read_to_string(path).ok()?)
    }
}

/// Nanoseconds on a CPU, the first of three numbers (Documentation/scheduler/sched-stats.rst).
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_nanoseconds_on_a_cpu() {
        assert_eq!(parse_schedstat("529378 77425 1\n"), Some(529_378));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn threads_that_ended_keep_their_time() {
        let ended = ThreadTime { first_ns: 100, last_ns: 400 };
        let new = ThreadTime { first_ns: 0, last_ns: 700 };
        let meter = CpuMeter { pid: 1, threads: BTreeMap::from([(7, ended), (8, new)]) };
        let total = meter.total(2000);
        assert_eq!((total.cpu_ns, total.threads), (1000, 2));
        assert_eq!((total.cores, total.busiest_thread_cores), (0.5, 0.35));
    }

    #[test]
    fn the_threads_of_this_process_are_read() {
        let mut meter = CpuMeter::start(std::process::id()).unwrap();
        meter.sample().unwrap();
        assert!(meter.total(1_000_000_000).threads >= 1);
    }
}
