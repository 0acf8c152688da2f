//! Tells both programs which commit they were built from.
//!
//! `URING_ECHO_COMMIT` in the environment comes first: a build in a container has no repository
//! around it. An archive of crates.io says which commit it was made from. Then the repository is
//! asked, if this folder belongs to one: an archive may lie in somebody else's. Without any of them
//! the commit is unknown, which is no error.

use std::fs;
use std::process::Command;

/// In archives of crates.io: `{"git": {"sha1": "…"}, …}`.
const PACKAGED: &str = ".cargo_vcs_info.json";
/// Digits of a commit's name.
const DIGITS: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed=URING_ECHO_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let given = std::env::var("URING_ECHO_COMMIT").ok().filter(|commit| !commit.is_empty());
    let packaged = fs::read_to_string(PACKAGED).ok().and_then(|text| packaged_commit(&text));
    let mut version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    if let Some(mut commit) = given.or(packaged).or_else(repository_commit) {
        commit.truncate(DIGITS);
        println!("cargo:rustc-env=URING_ECHO_COMMIT={commit}");
        version = format!("{version} ({commit})");
    }
    println!("cargo:rustc-env=URING_ECHO_VERSION={version}");
}

fn packaged_commit(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"sha1\"")?;
    let mut quoted = rest.split('"').skip(1);
    quoted.next().map(str::to_owned)
}

fn repository_commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    // The log of HEAD grows with every commit and checkout; HEAD itself names only the branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
