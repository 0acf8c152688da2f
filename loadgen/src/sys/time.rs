//! Durations and instants as whole nanoseconds.

use std::time::{Duration, SystemTime};

/// Nanoseconds of a duration; the command line allows less than a year, which fits.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970; an earlier instant counts as 1970.
pub fn unix_ns(instant: SystemTime) -> u64 {
    nanos(instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
