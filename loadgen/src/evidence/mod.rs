//! What the kernel counted while the run went on, read beside the generator and never by it.

mod counters;
mod cpu;
pub mod environment;
mod sampler;
mod settings;

use std::io;

pub use sampler::{Sampler, SamplerOptions};

/// Samples the server's listening sockets.
pub trait ListenerProbe {
    /// The state of the accept queues now.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or no listener is there.
    fn sample(&mut self) -> io::Result<QueueDepth>;
}

/// The accept queues of an address at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// How many listeners share the address.
    pub listeners: u32,
    /// Connections that wait, all queues together.
    pub queued: u32,
    /// Connections that wait in the longest queue.
    pub queued_max: u32,
    /// The limit of each queue: the smaller of `listen`'s backlog and `net.core.somaxconn`
    /// (listen(2)). Linux queues one more than this. The smallest, where listeners differ.
    pub limit: u32,
}
