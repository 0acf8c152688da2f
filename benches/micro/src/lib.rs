//! What is measured by both benches, `time` and `instructions`: one operation each, on a state that
//! has done it before.
//!
//! The shard gets the events that a kernel would report, and what it asks for is thrown away: what
//! remains is the cost of deciding. Each operation leaves its state as it found it.

pub mod codecs;
mod shard;

pub use shard::{Crowded, Operation, Worker};
