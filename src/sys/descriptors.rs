//! The limit of open descriptors (RLIMIT_NOFILE, getrlimit(2)), and the descriptor table.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many descriptors this process may have open; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What is enforced.
    pub soft: Option<u64>,
    /// What the soft limit may be raised to without a privilege.
    pub hard: Option<u64>,
}

impl DescriptorLimit {
    /// The enforced limit as a number; the largest one where there is none.
    #[must_use]
    pub fn enforced(self) -> u32 {
        self.soft.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX)
    }
}

/// The present limit.
#[must_use]
pub fn limit() -> DescriptorLimit {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    DescriptorLimit { soft: current, hard: maximum }
}

/// Raises the soft limit to the hard one; returns the limit in force afterwards.
///
/// # Errors
/// What setrlimit(2) failed with; the limit is then what it was. The kernel refuses an unlimited
/// number, for instance.
pub fn raise_limit() -> io::Result<DescriptorLimit> {
    let before = limit();
    if before.soft != before.hard {
        let raised = Rlimit { current: before.hard, maximum: before.hard };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit())
}

/// Grows this process's descriptor table to hold descriptors up to `highest`, or up to the limit.
///
/// To be called while the process has one thread. With several, the kernel waits for an RCU grace
/// period each time it doubles the table, which stops every thread that opens a descriptor for 5 to
/// 16 ms.
///
/// # Errors
/// What fcntl(2) failed with.
pub fn grow_table(highest: u32) -> io::Result<()> {
    let highest = highest.min(limit().enforced().saturating_sub(1));
    let highest = i32::try_from(highest).unwrap_or(i32::MAX);
    drop(fcntl_dupfd_cloexec(io::stderr(), highest)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let raised = raise_limit().expect("within the hard limit");
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(limit(), raised);
        assert!(raised.enforced() > 0);
    }

    #[test]
    fn growing_the_table_leaves_no_descriptor_behind() {
        let open = || std::fs::read_dir("/proc/self/fd").expect("a process").count();
        let before = open();
        grow_table(512).expect("within the limit");
        // Other tests open and close descriptors meanwhile, but not hundreds.
        assert!(open().abs_diff(before) < 100);
        grow_table(u32::MAX).expect("cut to the limit");
    }
}
