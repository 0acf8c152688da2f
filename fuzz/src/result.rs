//! Result files: whatever somebody hands to `report`, `merge` and `export`.

use loadgen::analyse::overview::against_the_first;
use loadgen::model::merge::Merge;
use loadgen::model::result::RunResult;
use loadgen::render::html::{self, Named};
use loadgen::render::{csv, hgrm, hlog, markdown, prometheus, terminal};

/// A text is refused with a message, or read; what was read is written and read again as the same,
/// rendered in every form and merged with a second of its kind, without a panic.
pub fn run(data: &[u8]) {
    let result = match RunResult::parse(data) {
        Ok(result) => result,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let text = result.to_json();
    let again = RunResult::parse(text.as_bytes()).expect("what was written is read");
    assert_eq!(again.to_json(), text);
    let report = terminal::report(&result, terminal::Style::default());
    assert!(!report.contains("NaN"), "{report}");
    let page = html::report(&result);
    assert!(!page.contains("<script"), "{page}");
    let named = Named { name: "x", result: &result };
    html::overlay(&[named, named], &against_the_first(&[("x/1", &result), ("y/1", &again)]));
    csv::render(&result);
    markdown::render(&result);
    for exported in [hgrm::of(&result), hlog::render(&result), prometheus::render(&result)] {
        assert!(exported.unwrap_or_else(|error| error.to_string()).len() > 1);
    }
    merge(result, again);
}

fn merge(one: RunResult, mut other: RunResult) {
    other.run_id.push('2');
    let mut merge = Merge::default();
    let added = merge.add("one", one).and_then(|()| merge.add("other", other));
    if let Err(error) = added {
        return assert!(!error.to_string().is_empty());
    }
    if let Ok(merged) = merge.finish() {
        terminal::report(&merged.result, terminal::Style::default());
    }
}
