//! The parts of the simulation.

pub(crate) mod candidates;
pub(crate) mod machine;
pub(crate) mod table;
pub(crate) mod traces;
