//! Sizes, durations, CPU lists and the rest of `uring-echo serve`'s flags.

use clap::Parser;
use uring_echo::cli::ServeArgs;

const FLAGS: [&str; 12] = [
    "--pool",
    "--buffer",
    "--credit",
    "--cpus",
    "--busy-poll",
    "--stall",
    "--idle-timeout",
    "--write-timeout",
    "--drain-delay",
    "--drain-timeout",
    "--backlog",
    "--max-connections",
];

/// The first byte chooses a flag, the rest is its value: refused with a message or read, never a
/// panic.
pub fn run(data: &[u8]) {
    let Some((first, value)) = data.split_first() else { return };
    let flag = FLAGS[usize::from(*first) % FLAGS.len()];
    let value = String::from_utf8_lossy(value);
    let parsed = ServeArgs::try_parse_from(["serve".to_owned(), format!("{flag}={value}")]);
    if let Err(error) = parsed {
        assert!(error.to_string().contains(flag), "{flag}={value:?}: {error}");
    }
}
