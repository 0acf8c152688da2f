//! What this was built from.

/// Of the package, with the commit behind it if that is known.
pub const VERSION: &str = env!("URING_ECHO_VERSION");
/// The commit, shortened.
pub const COMMIT: Option<&str> = option_env!("URING_ECHO_COMMIT");
