//! The operating system as seen from here: processes, signals, clocks.

pub mod clock;
pub mod processes;
pub mod signals;
pub mod time;
