//! loadgen: how long did connections wait to be accepted?
//!
//! [`cli`] → [`config`] → preflight → a [`schedule`] and a [`record`]er per generator thread →
//! totals → report.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod embedded;
pub mod observe;
pub mod record;
pub mod schedule;
