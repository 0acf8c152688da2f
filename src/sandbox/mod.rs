//! What the process gives up once it serves: everything it will not need again.
//!
//! Three restrictions complement each other. The rings are restricted when they are made
//! (`src/ring/setup.rs`), because a seccomp filter does not see what a ring does. Landlock denies
//! the file system, every TCP port and what else it can, for the threads that are started after it.
//! The seccomp filter comes last, when all rings and threads exist, and allows all threads at once
//! the [calls of a serving process](calls) and nothing else.

mod calls;
mod denial;
mod filter;
mod landlock;
mod restriction;
mod trial;

pub use self::calls::Uses;
pub use self::restriction::Restriction;
use self::trial::Denied;
pub use self::trial::try_for_parent;
use crate::config::SandboxMode;

/// A restriction that could not be applied although it was required.
#[derive(Debug, thiserror::Error)]
#[error("--sandbox require: {} is not to be had here: {reason}", restriction.name())]
pub struct SandboxError {
    /// Which one.
    pub restriction: Restriction,
    /// What the system said.
    pub reason: String,
}

/// The restrictions of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    mode: SandboxMode,
    denied: Vec<Denied>,
    /// Restrictions in force.
    pub active: Vec<&'static str>,
    /// Restrictions that are not available, or only in part, with the reason.
    pub missing: Vec<String>,
}

impl Sandbox {
    /// Nothing is restricted yet.
    #[must_use]
    pub const fn new(mode: SandboxMode) -> Self {
        Self { mode, denied: Vec::new(), active: Vec::new(), missing: Vec::new() }
    }

    /// As [`Self::new`], for a program that calls [`try_for_parent`] first: where a filter is
    /// active, child processes try the restrictions, and what ends them is left out. To be called
    /// before threads are started.
    #[must_use]
    pub fn with_trial(mode: SandboxMode) -> Self {
        let denied = if mode == SandboxMode::Off { Vec::new() } else { trial::find_denied() };
        Self { denied, ..Self::new(mode) }
    }

    /// After listeners are bound, before workers start: no new privileges, no file system except
    /// reading `/proc` and control groups (diagnoses need them), no TCP port to bind or connect to.
    ///
    /// # Errors
    /// Under `require`, the first restriction that is not available.
    pub fn restrict_before_workers(&mut self) -> Result<(), SandboxError> {
        self.apply(Restriction::NoNewPrivs, || {
            rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
            Ok(None)
        })?;
        self.apply(Restriction::Landlock, landlock::restrict)
    }

    /// After every ring and thread exists: only the calls of a serving process from now on.
    ///
    /// # Errors
    /// Under `require`, if the filter cannot be installed.
    pub fn restrict_when_ready(&mut self, uses: Uses) -> Result<(), SandboxError> {
        self.apply(Restriction::Seccomp, || {
            filter::apply(uses).map(|()| None).map_err(|error| match denial::active_filter() {
                Some(filter) => format!("{error}, {filter}"),
                None => error,
            })
        })
    }

    /// Restricts a thread that was started before [`Self::restrict_before_workers`], in its stead.
    /// What is not available is reported by that one.
    pub fn restrict_thread(&self) {
        let mut thread = self.clone();
        let (Ok(()) | Err(_)) = thread.restrict_before_workers();
    }

    /// Applies a restriction, which may return what is missing of it.
    fn apply(
        &mut self,
        restriction: Restriction,
        apply: impl FnOnce() -> Result<Option<String>, String>,
    ) -> Result<(), SandboxError> {
        if self.mode == SandboxMode::Off {
            return Ok(());
        }
        let denied = self.denied.iter().find(|denied| denied.restriction == restriction);
        let applied = denied.map_or_else(apply, |denied| Err(denied.reason.clone()));
        match applied {
            Ok(less) => {
                self.active.push(restriction.name());
                self.missing.extend(less);
            }
            Err(reason) if self.mode == SandboxMode::Require => {
                return Err(SandboxError { restriction, reason });
            }
            Err(reason) => self.missing.push(format!("no {}: {reason}", restriction.name())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_restricts_nothing_and_auto_reports_what_is_missing() {
        let mut off = Sandbox::new(SandboxMode::Off);
        off.apply(Restriction::Landlock, || panic!("not asked for")).expect("nothing to do");
        let mut auto = Sandbox::new(SandboxMode::Auto);
        auto.apply(Restriction::Landlock, || Err("not here".into())).expect("goes on");
        auto.apply(Restriction::Seccomp, || Ok(Some("half of it".into()))).expect("applied");
        assert_eq!(auto.active, ["seccomp"]);
        assert_eq!(auto.missing, ["no landlock: not here", "half of it"]);
        let mut required = Sandbox::new(SandboxMode::Require);
        let refused = required.apply(Restriction::Landlock, || Err("not here".into()));
        let text = refused.expect_err("required").to_string();
        assert!(text.contains("landlock is not to be had here: not here"), "{text}");
    }

    #[test]
    fn what_would_end_the_process_is_not_tried() {
        let restriction = Restriction::Seccomp;
        let denied = vec![Denied { restriction, reason: "it ends who tries".into() }];
        let sandbox = |mode| Sandbox { denied: denied.clone(), ..Sandbox::new(mode) };
        let mut auto = sandbox(SandboxMode::Auto);
        auto.apply(restriction, || panic!("tried")).expect("goes on");
        assert_eq!(auto.missing, ["no seccomp: it ends who tries"]);
        let mut required = sandbox(SandboxMode::Require);
        required.apply(restriction, || panic!("tried")).expect_err("required");
    }
}
