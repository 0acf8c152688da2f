//! What is decided before the first packet is sent.

pub mod arrivals;
pub mod config;
pub mod holding;
pub mod matrix;
pub mod payload;
pub mod preflight;
pub mod room;
pub mod schedule;
pub mod sources;
