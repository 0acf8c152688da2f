//! What else the machine did while it was measured: all CPU time less that of the measurement.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process;

/// The beginning of what is watched.
pub(crate) struct CpuContention {
    begun: Instant,
    busy_ns: u64,
    own_ns: u64,
}

impl CpuContention {
    /// # Errors
    /// /proc cannot be read.
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self { begun: Instant::now(), busy_ns: busy_ns()?, own_ns: own_ns()? })
    }

    /// CPUs that others kept busy since then, on average.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(crate) fn other_cpus(&self) -> Result<f64> {
        let (busy, own) =
            (busy_ns()?.saturating_sub(self.busy_ns), own_ns()?.saturating_sub(self.own_ns));
        let foreign = busy.saturating_sub(own) as f64;
        Ok(foreign / self.begun.elapsed().as_nanos() as f64)
    }
}

/// This process, its children that run and those that have ended.
fn own_ns() -> Result<u64> {
    process::cpu_ns(std::process::id())
}

fn busy_ns() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = busy_ticks(&stat).context("/proc/stat has no line of all CPUs")?;
    Ok(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// All of the first line but idle and iowait; guest time is part of user time already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let busy = |(index, _): &(usize, &u64)| !matches!(index, 3 | 4 | 8..);
    Some(ticks.iter().enumerate().filter(busy).map(|(_, ticks)| ticks).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_guest_time_is_not_busy() {
        let stat = "cpu  10 1 20 1000 50 2 3 4 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_ticks(stat), Some(40));
    }
}
