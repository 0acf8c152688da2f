//! What the kernel counted during the run, read by a thread of its own and not by the generator.

mod counters;
mod cpu;
pub mod environment;
pub mod floor;
mod latest;
mod queue;
mod sampler;
mod settings;
mod throttling;

use std::io;

pub(crate) use cpu::CpuMeter;
pub use latest::LatestQueue;
pub use sampler::{MeasuredFrom, Sampler, SamplerOptions};

/// Samples the server's listening sockets.
pub trait ListenerSampler {
    /// The state of the accept queues now.
    ///
    /// # Errors
    /// When the kernel does not answer, or there is no listener.
    fn sample(&mut self) -> io::Result<QueueDepth>;
}

/// The accept queues of an address at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// How many listeners share the address.
    pub listeners: u32,
    /// Connections waiting in all queues together.
    pub queued: u32,
    /// Connections waiting in the longest queue.
    pub queued_max: u32,
    /// The limit of each queue: the smaller of `listen`'s backlog and `net.core.somaxconn`
    /// (listen(2)). Linux queues one connection more. The smallest limit, where listeners differ.
    pub limit: u32,
    /// SYNs and last ACKs dropped at these listeners since they exist.
    pub drops: u64,
}
