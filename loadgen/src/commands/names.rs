//! Short names for results among others.

use std::path::Path;

/// What tells each path from the others: without what all begin with and `result.json` at the end.
pub(super) fn distinct(paths: &[&Path]) -> Vec<String> {
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &usize| parts.iter().all(|path| path[*at] == parts[0][*at]);
    let common = (0..shortest.saturating_sub(1)).take_while(same).count();
    parts.iter().map(|path| path[common..].join("/")).collect()
}

fn parts(path: &Path) -> Vec<String> {
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let mut parts: Vec<String> = parts.collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "result.json") {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_differs() {
        let named = |paths: &[&str]| {
            distinct(&paths.iter().map(|path| Path::new(*path)).collect::<Vec<_>>())
        };
        assert_eq!(named(&["out/a/result.json", "out/b"]), ["a", "b"]);
        assert_eq!(named(&["s/5/1/result.json", "s/5/2/result.json"]), ["1", "2"]);
        assert_eq!(named(&["result.json"]), ["result.json"]);
        assert_eq!(named(&["a/x", "a"]), ["a/x", "a"]);
        assert!(named(&[]).is_empty());
    }
}
