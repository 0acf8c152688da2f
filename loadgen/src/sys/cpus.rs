//! The CPUs that a thread may be placed on.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Those of `wanted` that the calling thread may use. The kernel cuts a list to the cpuset
/// (sched_setaffinity(2)), so it is asked by placing the thread there for a moment.
///
/// # Errors
/// What reading or restoring the affinity failed with.
pub fn usable(wanted: &[usize]) -> io::Result<Vec<usize>> {
    let before = sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    wanted.iter().for_each(|&cpu| set.set(cpu));
    let granted = match sched_setaffinity(None, &set) {
        Ok(()) => sched_getaffinity(None)?,
        // None of them is there.
        Err(Errno::INVAL) => CpuSet::new(),
        Err(error) => return Err(error.into()),
    };
    sched_setaffinity(None, &before)?;
    Ok(wanted.iter().copied().filter(|&cpu| granted.is_set(cpu)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_not_there_is_left_out_and_the_thread_stays_where_it_was() {
        let before = sched_getaffinity(None).unwrap();
        let here = (0..CpuSet::MAX_CPU).find(|&cpu| before.is_set(cpu)).unwrap();
        assert_eq!(usable(&[here, 1023]).unwrap(), [here]);
        assert_eq!(usable(&[1023]).unwrap(), [0; 0]);
        assert!(sched_getaffinity(None).unwrap() == before);
    }
}
