//! The operating system as seen from here: processes, clocks, limits.

pub mod clock;
pub mod processes;
