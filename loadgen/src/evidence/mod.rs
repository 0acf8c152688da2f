//! What the kernel counted while the run went on, read beside the generator and never by it.
//!
//! Counters belong to the network namespace, so other traffic in it counts too. What cannot be
//! read is absent and listed in [`Evidence::unreadable`].

mod conntrack;
mod counters;
mod cpu;
pub mod environment;
mod sampler;
mod settings;

use std::io;

use serde::{Deserialize, Serialize};

use crate::observe::{ListenerQueue, QueueDepth};

pub use conntrack::Conntrack;
pub use counters::KernelCounters;
pub use cpu::CpuUse;
pub use sampler::{Sampler, SamplerOptions};
pub use settings::Settings;
pub(crate) use settings::{port_range, sysctl};

/// Looks at the server's listening sockets.
pub trait ListenerProbe {
    /// The state of the accept queues now.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or no listener is there.
    fn sample(&mut self) -> io::Result<QueueDepth>;
}

impl ListenerProbe for ListenerQueue {
    fn sample(&mut self) -> io::Result<QueueDepth> {
        let depth = Self::sample(self)?;
        depth
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no listener in this namespace"))
    }
}

/// Kernel evidence of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Time between the first and the last reading.
    pub elapsed_ns: u64,
    /// TCP counters, difference over the run.
    pub kernel: Option<KernelCounters>,
    /// The accept queue, sampled.
    pub accept_queue: Option<QueueEvidence>,
    /// Connection tracking, where the kernel has it.
    pub conntrack: Option<Conntrack>,
    /// CPU time of this process.
    pub generator_cpu: Option<CpuUse>,
    /// CPU time of the server, where its process is known.
    pub server_cpu: Option<CpuUse>,
    /// Samples at the instants at which the kernel retries a SYN.
    pub retransmit_schedule: Option<RetransmitSchedule>,
    /// Looks of `--observe diag` that the kernel had no memory for (ENOBUFS, ENOMEM, EAGAIN): the
    /// brackets around those accepts are wider.
    #[serde(default)]
    pub samples_missed: u64,
    /// Kernel settings that shape what was measured.
    pub settings: Settings,
    /// What could not be read, and why.
    pub unreadable: Vec<String>,
}

/// The accept queue over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueEvidence {
    /// Listening sockets, at most.
    pub listeners: u32,
    /// Effective backlog of one listener.
    pub limit: u32,
    /// Longest queue of one listener in any sample: compares with `limit`.
    pub depth_max: u32,
    /// Connections waiting over all listeners, mean of the samples.
    pub depth_mean: f64,
    /// Samples taken.
    pub samples: u64,
    /// Samples that failed.
    pub samples_failed: u64,
}

/// Samples that sit where the kernel's own retries put them: the SYN (or the last ACK of the
/// handshake) was dropped, and the wait is not the server's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetransmitSchedule {
    /// Samples of connect on a rung: the SYN was dropped.
    pub connect: u64,
    /// Samples of accept_delay on a rung: the SYN or the last ACK was dropped.
    pub accept_delay: u64,
}

impl RetransmitSchedule {
    /// Counts the samples on the rungs.
    pub fn count(interval: &crate::generate::recorder::Interval) -> Self {
        use crate::generate::recorder::Phase;
        Self {
            connect: near_retransmits(interval.histogram(Phase::Connect)),
            accept_delay: near_retransmits(interval.histogram(Phase::AcceptDelay)),
        }
    }
}

/// Seconds after the first SYN at which Linux repeats it (tcp_syn_linear_timeouts = 4, the default
/// since 6.5). Without linear time-outs the rungs are 1, 3, 7: among these.
const RETRANSMITS_S: [u64; 7] = [1, 2, 3, 4, 5, 7, 11];

fn near_retransmits(histogram: &hdrhistogram::Histogram<u64>) -> u64 {
    RETRANSMITS_S.iter().map(|&second| count_near(histogram, second * 1_000_000_000)).sum()
}

/// Kernel timers fire late, by up to 1/40 of their time here (7.12 s was measured on the 7 s rung),
/// and the scheduler adds its part; a little below is allowed for the histogram's own width.
fn count_near(histogram: &hdrhistogram::Histogram<u64>, at_ns: u64) -> u64 {
    const BELOW_NS: u64 = 10_000_000;
    const ABOVE_MIN_NS: u64 = 60_000_000;
    let above_ns = ABOVE_MIN_NS.max(at_ns / 40);
    histogram.count_between(at_ns - BELOW_NS, at_ns + above_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::recorder::{Interval, Phase, Recorder};

    #[test]
    fn samples_on_the_retry_ladder_are_counted_and_others_are_not() {
        let mut recorder = Recorder::new();
        for ms in [1000, 1033, 2030, 4080, 7120] {
            recorder.record(Phase::Connect, ms * 1_000_000);
        }
        for ms in [0, 200, 960, 1500, 6000, 8000] {
            recorder.record(Phase::Connect, ms * 1_000_000);
        }
        recorder.record(Phase::AcceptDelay, 1_050_000_000);
        let interval = recorder.take_interval(1, Interval::new());
        let schedule = RetransmitSchedule::count(&interval);
        assert_eq!(schedule, RetransmitSchedule { connect: 5, accept_delay: 1 });
    }
}
