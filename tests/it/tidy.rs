//! House rules that can be read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_PER_FUNCTION: usize = 70;
const COLUMNS: usize = 100;

/// Every Rust source of the workspace: path from the root, text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<PathBuf> =
        ["src", "loadgen", "tests", "benches", "fuzz"].map(|part| root.join(part)).to_vec();
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            pending.retain(|path| !path.ends_with("target"));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            found.push((name, fs::read_to_string(&path).expect("UTF-8")));
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn assert_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

/// Lines of all sources for which `wrong` holds, as `path:line`.
fn lines_where(wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        let numbered = text.lines().enumerate().filter(|(_, line)| wrong(&name, line));
        offenders.extend(numbered.map(|(index, line)| format!("{name}:{}: {line}", index + 1)));
    }
    offenders
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

#[test]
fn unsafe_code_is_behind_the_fence() {
    let words = [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl")];
    let offenders = lines_where(|name, line| {
        let fenced = name.starts_with("src/ring/");
        !fenced && is_code(line) && words.iter().any(|word| line.contains(word))
    });
    assert_none("only src/ring/ may hold unsafe code", &offenders);
}

#[test]
fn the_echo_core_does_no_io() {
    let banned = [
        "std::io",
        "std::net",
        "std::fs",
        "std::time",
        "std::thread",
        "std::os",
        "libc",
        "rustix",
        "io_uring",
        "socket2",
        "println!",
        "eprintln!",
        "tracing",
        "crate::ring",
    ];
    let offenders = lines_where(|name, line| {
        let core = name.starts_with("src/echo/");
        core && is_code(line) && banned.iter().any(|word| line.contains(word))
    });
    assert_none("src/echo/ decides and does no I/O", &offenders);
}

#[test]
fn the_fence_names_no_echo_concept() {
    let offenders = lines_where(|name, line| {
        name.starts_with("src/ring/") && is_code(line) && line.contains("crate::echo")
    });
    assert_none("src/ring/ and src/echo/ know nothing of each other", &offenders);
}

#[test]
fn nothing_is_left_to_do() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let offenders = lines_where(|_, line| words.iter().any(|word| line.contains(word)));
    assert_none("left-overs belong in an issue", &offenders);
}

#[test]
fn lines_fit_the_page() {
    let offenders = lines_where(|_, line| line.chars().count() > COLUMNS);
    assert_none("lines have at most 100 columns", &offenders);
}

#[test]
fn functions_fit_a_screen() {
    let mut offenders = Vec::new();
    for (name, text) in sources() {
        let mut open: Option<(usize, usize)> = None;
        for (index, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match open {
                None if is_function(line) && !line.ends_with('}') && !line.ends_with(';') => {
                    open = Some((index, indent));
                }
                Some((start, depth)) if line.trim_end() == format!("{}}}", " ".repeat(depth)) => {
                    if index + 1 - start > LINES_PER_FUNCTION {
                        offenders.push(format!(
                            "{name}:{}: {} lines",
                            start + 1,
                            index + 1 - start
                        ));
                    }
                    open = None;
                }
                Some((_, depth)) if line.ends_with(';') && indent == depth => open = None,
                _ => {}
            }
        }
    }
    assert_none("functions have at most 70 lines", &offenders);
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let prefixes = ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "];
    let mut rest = line;
    while let Some(prefix) = prefixes.iter().find(|prefix| rest.starts_with(**prefix)) {
        rest = &rest[prefix.len()..];
    }
    rest.starts_with("fn ")
}
