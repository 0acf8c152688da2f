//! A result in the forms that people and other programs read, and the files they go to.

pub mod chart;
mod comparison;
pub mod csv;
pub mod findings;
mod floor;
pub mod headline;
pub mod hgrm;
pub mod hlog;
pub mod html;
mod live;
pub mod markdown;
mod objectives;
pub mod output;
pub mod picture;
pub mod plot;
pub mod progress;
pub mod prometheus;
pub mod sequence;
pub mod svg;
mod table;
pub mod terminal;
pub mod units;
pub mod watch_findings;
pub mod watch_metrics;
pub mod watch_progress;
