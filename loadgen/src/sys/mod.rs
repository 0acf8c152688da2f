//! Access to the operating system: CPUs, processes, ports, signals, clocks.

pub mod addresses;
pub mod clock;
pub mod cpus;
pub mod given_process;
pub mod namespaces;
pub mod ports;
pub mod private_network;
pub mod processes;
pub mod signals;
pub mod time;
