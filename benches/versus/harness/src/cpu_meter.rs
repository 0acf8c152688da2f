//! A server's CPU time along a load that another program generates: the harness cannot read it at
//! the load's very ends, so it reads it all along and looks at the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use rustix::thread::CpuSet;

use crate::process;

const POLL_EVERY: Duration = Duration::from_millis(20);

/// Readings at a process until it is finished.
pub(crate) struct CpuMeter {
    enough: Arc<AtomicBool>,
    looking: JoinHandle<Vec<Reading>>,
}

/// When, since 1970, and what the process had used by then; nanoseconds both.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: u64,
    used: u64,
}

/// What a [`CpuMeter`] saw, oldest first.
#[derive(Debug)]
pub(crate) struct Readings(Vec<Reading>);

/// A stretch of time in nanoseconds; the begin counts from 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) begin: u64,
    pub(crate) length: u64,
}

impl CpuMeter {
    /// Readings at `pid` from `cpu`.
    pub(crate) fn begin(pid: u32, cpu: usize) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&enough);
        let looking = thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(cpu);
            // Where it may not run there, its few microseconds are spent elsewhere.
            let _elsewhere = rustix::thread::sched_setaffinity(None, &only);
            let mut readings = Vec::new();
            while !done.load(Ordering::Relaxed) {
                readings.extend(read(pid));
                thread::sleep(POLL_EVERY);
            }
            readings
        });
        Self { enough, looking }
    }

    /// # Errors
    /// The looking thread failed.
    pub(crate) fn finish(self) -> Result<Readings> {
        self.enough.store(true, Ordering::Relaxed);
        self.looking.join().map(Readings).map_err(|_| anyhow!("the looking thread failed"))
    }
}

/// Nothing once the process is gone.
fn read(pid: u32) -> Option<Reading> {
    let used = process::own_cpu_ns(pid).ok()?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Reading { at: at.as_nanos() as u64, used })
}

impl Readings {
    /// CPUs used on average over the middle half of `window`: whatever comes before and after a
    /// load is left out on both sides.
    pub(crate) fn cores(&self, window: Window) -> Option<f64> {
        let begin = window.begin + window.length / 4;
        let end = begin + window.length / 2;
        Some((self.used_at(end)? - self.used_at(begin)?) / (end - begin) as f64)
    }

    /// In proportion between the two nearest readings.
    fn used_at(&self, at: u64) -> Option<f64> {
        let pair = self.0.windows(2).find(|pair| (pair[0].at..=pair[1].at).contains(&at))?;
        let share = (at - pair[0].at) as f64 / (pair[1].at - pair[0].at).max(1) as f64;
        Some(pair[0].used as f64 + share * pair[1].used.saturating_sub(pair[0].used) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_middle_half_counts() {
        // Idle, then half a core from 100 to 300.
        let readings = [(0, 0), (100, 0), (300, 100), (400, 100)];
        let readings =
            Readings(readings.map(|(at, used)| Reading { at: 7000 + at, used }).to_vec());
        let window = Window { begin: 7090, length: 220 };
        assert_eq!(readings.cores(window), Some(0.5));
        assert_eq!(readings.cores(Window { begin: 7900, length: 10 }), None);
    }
}
