//! Readings of the system that both programs need: `/proc`, limits, control groups, threads,
//! connection tracking, what the process runs in.
//!
//! Everything here is a plain call or a small parser; nothing logs and nothing is cached.

pub mod cgroup;
pub mod conntrack;
pub mod cpu_quota;
pub mod descriptors;
pub mod host;
pub mod procfs;
pub mod threads;
