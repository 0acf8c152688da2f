//! The fuzz targets as plain functions: each takes any bytes and panics if a promise is broken.
//! `tests/fuzz.rs` of the main package runs the same functions without a fuzzer.

pub mod flags;
pub mod shard;
pub mod stamp;
pub mod token;

#[allow(dead_code, reason = "the seeded runs of tests/sim.rs use the rest")]
#[path = "../../tests/sim/mod.rs"]
mod sim;
