//! The echo service with no I/O: what to do next, never how.
//!
//! A [`Shard`] owns every connection of one worker. An engine tells it what happened
//! ([`Event`]) and carries out what it asks for ([`Action`]). Nothing in here knows of sockets,
//! rings, clocks or memory: buffers are ids, sockets are opaque numbers, time is an argument.
//! That is what lets the simulation in `tests/sim.rs` drive it with a kernel it made up.

mod event;

pub use event::{
    AcceptEnd, Action, BufId, Burst, Event, ListenerId, Nanos, PeerKey, RecvEnd, SocketId, Source,
    Span,
};
