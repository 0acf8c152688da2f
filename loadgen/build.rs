//! Tells the program which commit it was built from, for the result files.
//!
//! `LOADGEN_COMMIT` in the environment comes first: a build from an archive or in a container has
//! no repository around it. Without either the commit is unknown, which is no error.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LOADGEN_COMMIT");
    // The log of HEAD grows with every commit and checkout; HEAD itself names only the branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let given = std::env::var("LOADGEN_COMMIT").ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])) {
        println!("cargo:rustc-env=LOADGEN_COMMIT={commit}");
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
