//! The echo service with no I/O: what to do next, never how.
//!
//! A [`Shard`] owns every connection of one worker. An engine tells it what happened
//! ([`Event`]) and carries out what it asks for ([`Action`]). Nothing in here knows of sockets,
//! rings, clocks or memory: buffers are ids, sockets are opaque numbers, time is an argument.
//! That is what lets the simulation in `tests/sim.rs` drive it with a kernel it made up.

mod accept;
mod buffers;
mod connection;
mod event;
mod holding;
mod limits;
mod pace;
mod parked;
pub(crate) mod peers;
mod rests;
mod shard;
mod stats;
mod timers;

/// Names one connection of a [`Shard`].
pub use crate::slots::SlotId as ConnId;
pub use event::{
    AcceptEnd, Action, BufId, Burst, Event, ListenerId, Nanos, PeerKey, RecvEnd, SocketId, Source,
    Span,
};
pub use limits::Limits;
pub use shard::Shard;
pub use stats::Stats;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod slow_examples;

/// The most spans in one send.
pub const MAX_SPANS: usize = 16;
