//! The seccomp filter that this process was started with, by name: it may deny the process to
//! restrict itself.

use std::fmt;

use crate::sys::host::Host;
use crate::sys::procfs;

/// The seccomp filter that this process was started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter(Host);

/// `None` if there is none, or `/proc` is not readable.
pub(super) fn active_filter() -> Option<Filter> {
    (procfs::seccomp_mode()? == 2).then(|| Filter(Host::of_this_process()))
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied by {}", self.0.filter())?;
        let calls = "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp";
        match self.0 {
            Host::Systemd => write!(f, " (systemctl edit the unit: SystemCallFilter={calls})"),
            _ => write!(f, " (it has to allow {calls})"),
        }
    }
}
