//! The fuzz targets as plain functions: each takes any bytes and panics if a promise is broken.
//! `tests/fuzz.rs` of the main package runs the same functions without a fuzzer, and those of
//! loadgen are run by `loadgen/tests/fuzz.rs`.

pub mod flags;
pub mod hlog;
pub mod result;
pub mod shard;
pub mod slo;
pub mod stamp;
pub mod token;

#[allow(dead_code, reason = "the seeded runs of tests/sim.rs use the rest")]
#[path = "../../tests/sim/mod.rs"]
mod sim;
