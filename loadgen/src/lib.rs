//! loadgen: how long did connections wait to be accepted?
//!
//! Layers, each of which uses only those below it:
//! [`cli`] (what can be typed) → [`commands`] (one per subcommand, wiring only) → [`render`] and
//! [`analyse`] (over the result) → [`generate`] (the hot path) → [`observe`] (when was it
//! accepted) → [`evidence`] (what the kernel counted) → [`server`] (the embedded one) → [`plan`]
//! (before the first packet) → [`model`] (the result) → [`sys`] and [`echo_client`].
#![forbid(unsafe_code)]

pub mod analyse;
pub mod cli;
pub mod commands;
pub mod echo_client;
pub mod evidence;
pub mod generate;
pub mod model;
pub mod observe;
pub mod plan;
pub mod render;
pub mod server;
pub mod sys;
#[cfg(test)]
mod testing;
