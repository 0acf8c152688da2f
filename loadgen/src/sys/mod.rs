//! The operating system as seen from here: processes, signals, clocks.

pub mod clock;
pub mod ports;
pub mod processes;
pub mod signals;
pub mod time;
