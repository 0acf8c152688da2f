//! loadgen: how long did connections wait to be accepted?
#![forbid(unsafe_code)]

pub mod clock;
pub mod embedded;
pub mod observe;
