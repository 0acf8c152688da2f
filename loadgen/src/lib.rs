//! loadgen: how long did connections wait to be accepted?
//!
//! [`cli`] → [`config`] → [`preflight`] → a [`schedule`] and a [`record`]er per generator thread →
//! [`totals`] → [`report`], with the [`evidence`] sampler beside.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod embedded;
pub mod environment;
pub mod evidence;
pub mod human;
pub mod observe;
pub mod preflight;
pub mod progress;
pub mod record;
pub mod report;
pub mod schedule;
pub mod sources;
pub mod totals;
pub mod verdict;
