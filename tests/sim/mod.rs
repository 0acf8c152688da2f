//! The made-up kernel and its clients: see docs/simulation.md.

pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod dice;
pub(crate) mod hearing;
pub(crate) mod kernel;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod scenario;
pub(crate) mod sights;
pub(crate) mod socket;
pub(crate) mod transfer;
pub(crate) mod watch;
pub(crate) mod world;
