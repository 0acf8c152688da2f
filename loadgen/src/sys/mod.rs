//! Access to the operating system: processes, ports, signals, clocks.

pub mod clock;
pub mod ports;
pub mod processes;
pub mod signals;
pub mod time;
