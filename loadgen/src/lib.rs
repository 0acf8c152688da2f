//! loadgen: how long did connections wait to be accepted?
//!
//! [`cli`] → [`config`] → [`preflight`] → [`dispatch`]: per generator thread a [`schedule`], a
//! table of [`connection`]s and a [`ledger`] that writes into the [`record`]er, watched by
//! [`observe`] → [`totals`] → [`verdict`] → [`report`], with the [`evidence`] sampler beside.
//! [`run()`](run::run) is the whole of it. Two commands stand apart: [`torture`] checks a server,
//! [`hold`] holds idle connections and weighs them.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod dispatch;
pub mod embedded;
pub mod environment;
pub mod evidence;
pub mod hold;
pub mod human;
pub mod ledger;
pub mod observe;
pub mod payload;
pub mod preflight;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod sources;
pub mod torture;
pub mod totals;
pub mod verdict;
