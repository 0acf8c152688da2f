//! The simulated kernel and its clients: see docs/simulation.md.

pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod coverage;
pub(crate) mod delivery;
pub(crate) mod kernel;
pub(crate) mod listener;
pub(crate) mod liveness;
pub(crate) mod memory;
pub(crate) mod random;
pub(crate) mod scenario;
pub(crate) mod simulation;
pub(crate) mod socket;
pub(crate) mod transfer;
