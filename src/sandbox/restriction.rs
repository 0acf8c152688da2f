//! What a process can give up.

/// One of the restrictions of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// No privileges by execve(2).
    NoNewPrivs,
    /// landlock(7).
    Landlock,
    /// A filter of seccomp(2).
    Seccomp,
}

impl Restriction {
    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoNewPrivs => "no_new_privs",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}
