//! Clocks: the two of a stamp are read without entering the kernel (vDSO, vdso(7)).

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds on `CLOCK_MONOTONIC` (clock_gettime(2)): since boot, never set back; it compares
/// between processes of one [clock domain](crate::stamp::ClockDomain).
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since 1970-01-01 UTC on `CLOCK_REALTIME` (clock_gettime(2)): what the wall clock
/// says, which may be wrong and may jump.
#[must_use]
pub fn realtime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// By how much `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`, nanoseconds: the closest of several
/// readings of both, because a thread may lose its CPU between one clock and the other.
#[must_use]
pub fn realtime_ahead_ns() -> i64 {
    let reading = |_| {
        let (before, realtime, after) = (monotonic_ns(), realtime_ns(), monotonic_ns());
        (after - before, realtime.wrapping_sub(before.midpoint(after)).cast_signed())
    };
    let closest = (0..READINGS).map(reading).min_by_key(|&(took_ns, _)| took_ns);
    closest.map_or(0, |(_, ahead_ns)| ahead_ns)
}

/// Each takes some 60 ns.
const READINGS: u32 = 8;

/// CPU time that the calling thread has used, in nanoseconds. Enters the kernel.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time that all threads of this process have used, in nanoseconds. Enters the kernel.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// All clocks start at or after zero, so the parts are never negative.
fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_does_not_go_back() {
        let earlier = monotonic_ns();
        assert!(earlier > 0);
        assert!(monotonic_ns() >= earlier);
    }

    #[test]
    fn one_clock_is_told_by_the_other() {
        let before = realtime_ns();
        let now = monotonic_ns().checked_add_signed(realtime_ahead_ns()).unwrap();
        let (least, most) = (before - CLOSE_NS, realtime_ns() + CLOSE_NS);
        assert!((least..=most).contains(&now), "{now} is not from {least} to {most}");
    }

    const CLOSE_NS: u64 = 1_000_000;

    #[test]
    fn cpu_time_is_used_by_computing() {
        let (thread, process) = (thread_cpu_ns(), process_cpu_ns());
        let sum: u64 = (0..100_000).map(std::hint::black_box).sum();
        assert!(sum > 0 && thread_cpu_ns() > thread && process_cpu_ns() > process);
    }

    #[test]
    fn realtime_is_the_time_the_standard_library_tells() {
        let std_ns = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        assert!(u128::from(realtime_ns()) >= std_ns);
    }
}
