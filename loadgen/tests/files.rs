//! `report`, `merge` and `export` over result files, good and bad, as a user calls them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadgen::model::histogram::Summary;
use loadgen::model::result::RunResult;
use serde_json::{Value, json};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(args).output().expect("loadgen starts")
}

fn fine(args: &[&str]) -> String {
    let output = loadgen(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// The golden run, changed, as a file in `folder`.
fn changed(folder: &Path, name: &str, change: impl Fn(&mut Value)) -> String {
    let text = std::fs::read_to_string(golden("v2-run.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    change(&mut value);
    let path = folder.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn every_format_is_exported_to_stdout_and_to_a_file() {
    let run = golden("v2-run.json").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    for (format, part) in [
        ("csv", "interval,start_ns,length_ns,phase,count"),
        ("hgrm", "1/(1-Percentile)"),
        ("hlog", "#[Histogram log format version 1.3]"),
        ("prometheus", "# TYPE loadgen_phase_seconds histogram"),
        ("markdown", "| accept_delay |"),
    ] {
        let printed = fine(&["export", &run, "--format", format]);
        assert!(printed.contains(part), "{format}: {printed}");
        let file = folder.path().join(format);
        fine(&["export", &run, "--format", format, "--out", &file.display().to_string()]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), printed, "{format}");
    }
    for name in ["v2-hold.json", "v2-torture.json", "v1-diag.json"] {
        for format in ["csv", "hgrm", "hlog", "prometheus", "markdown"] {
            fine(&["export", &golden(name).display().to_string(), "--format", format]);
        }
    }
}

#[test]
fn merging_doubles_every_count_and_writes_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let other = changed(folder.path(), "other.json", |value| {
        value["run_id"] = json!("other");
        for instant in value["times"].as_object_mut().unwrap().values_mut() {
            *instant = json!(instant.as_u64().unwrap() + 60_000_000_000);
        }
    });
    let run = golden("v2-run.json").display().to_string();
    let out = folder.path().join("sum");
    let report = loadgen(&["merge", &run, &other, "--out", &out.display().to_string()]);
    let one = RunResult::load(&golden("v2-run.json")).unwrap();
    let status = if one.verdict.valid { 0 } else { 4 };
    assert_eq!(report.status.code(), Some(status), "{report:?}");
    let sum = RunResult::load(&out).unwrap();
    assert_eq!(sum.outcomes, one.outcomes.merged(&one.outcomes));
    assert_eq!(sum.merged.len(), 2);
    for (phase, summary) in &one.histograms {
        let mut twice = summary.histogram().unwrap();
        twice.add(summary.histogram().unwrap()).unwrap();
        assert_eq!(sum.histograms[phase], Summary::of(&twice), "{phase}");
    }
    assert_eq!(sum.intervals.len(), 2 * one.intervals.len());
    for name in ["report.html", "run.hlog", "accept_delay.hgrm"] {
        assert!(out.join(name).is_file(), "{name}");
    }
}

#[test]
fn several_results_are_overlaid_in_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("both.html");
    let (one, other) = (golden("v2-run.json"), golden("v1-diag.json"));
    let files = [&one, &other].map(|path| path.display().to_string());
    let printed = fine(&["report", &files[0], &files[1], "--html", &page.display().to_string()]);
    assert_eq!(printed.matches("accept_delay by percentile").count(), 2, "{printed}");
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("v2-run.json") && page.contains("v1-diag.json"));
    assert_eq!(page.matches("<details>").count(), 2);
}

/// What is wrong with the file, and that nobody panicked over it.
fn assert_refused(args: &[&str], part: &str) {
    let output = loadgen(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.starts_with("loadgen: ") && stderr.contains(part), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty(), "{args:?} printed something");
}

#[test]
fn files_that_are_no_results_are_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let whole = std::fs::read(golden("v2-run.json")).unwrap();
    let out = folder.path().join("out").display().to_string();
    for (file, part) in [
        (folder.path().join("nowhere").display().to_string(), "No such file"),
        (folder.path().display().to_string(), "without a result.json"),
        (write("half", &whole[..whole.len() / 2]), "cut off"),
        (write("empty", b""), "cut off"),
        (write("text", b"\xff\xfe not JSON"), "no JSON"),
        (write("foreign", br#"{"name": "something else"}"#), "no schema_version"),
        (changed(folder.path(), "newer", |v| v["schema_version"] = json!(3)), "schema version 3"),
        (changed(folder.path(), "type", |v| v["outcomes"] = json!("all")), "damaged"),
    ] {
        assert_refused(&["report", &file], part);
        assert_refused(&["merge", &file, "--out", &out], part);
        assert_refused(&["export", &file, "--format", "csv"], part);
    }
    assert!(!Path::new(&out).exists(), "nothing is written for files that are refused");
}

#[test]
fn histograms_that_would_not_merge_exactly_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1_000_000, 2).unwrap();
    let payload = Summary::of(&other).hdr_v2_deflate_base64;
    let replaced = |payload: &str| {
        let payload = payload.to_owned();
        changed(folder.path(), "payload.json", move |value| {
            value["histograms"]["accept_delay"]["hdr_v2_deflate_base64"] = json!(payload);
        })
    };
    let out = folder.path().join("out").display().to_string();
    for (payload, part) in [(payload.as_str(), "other bounds"), ("AAAA", "damaged")] {
        let file = replaced(payload);
        assert_refused(&["merge", &file, "--out", &out], part);
        assert_refused(&["export", &file, "--format", "hgrm"], part);
        let page = folder.path().join("page.html").display().to_string();
        fine(&["report", &file, "--html", &page]);
    }
}

#[test]
fn a_missing_and_a_repeated_shard_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |name: &str, index: u32| {
        changed(folder.path(), name, move |value| {
            value["run_id"] = json!(format!("{index}-{}", value["run_id"]));
            value["shard"] = json!({"index": index, "count": 3});
        })
    };
    let (zero, two) = (shard("zero.json", 0), shard("two.json", 2));
    let again = changed(folder.path(), "again.json", |value| {
        value["run_id"] = json!("another");
        value["shard"] = json!({"index": 2, "count": 3});
    });
    let out = folder.path().join("out").display().to_string();
    assert_refused(&["merge", &zero, &two, "--out", &out], "shard 1 of 3");
    assert_refused(&["merge", &zero, &two, &again, "--out", &out], "both shard 2 of 3");
    let twice = changed(folder.path(), "twice.json", |_| {});
    let run = golden("v2-run.json").display().to_string();
    assert_refused(&["merge", &run, &twice, "--out", &out], "the same run");
}
