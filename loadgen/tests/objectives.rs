//! `--slo` and `--abort-on` on real runs, and `loadgen compare` on their files.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use loadgen::model::result::RunResult;
use serde_json::Value;

fn loadgen(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

const SHORT: [&str; 6] = ["run", "--rate", "400", "--connections", "200", "--quiet"];

/// The status of a run with these objectives; a busy machine may make any of them INVALID.
fn assert_status(output: &Output, result: &Value, expected: i32) {
    let valid = result["verdict"]["valid"] == true;
    let expected = if valid { expected } else { 4 };
    assert_eq!(output.status.code(), Some(expected), "{:#}", result["verdict"]);
}

#[test]
fn met_and_missed_objectives_are_in_result_report_and_status() {
    let met = ["--slo", "accept_delay.p50<20s", "--slo", "never_accepted==0", "--json", "-"];
    let output = loadgen(&[&SHORT[..], &met].concat());
    let result = json(&output);
    assert_status(&output, &result, 0);
    assert_eq!(result["slo"][0]["expr"], "accept_delay.p50<20s");
    assert_eq!(
        result["slo"][0]["value"],
        result["histograms"]["accept_delay"]["p50"].as_f64().unwrap()
    );
    assert_eq!((&result["slo"][1]["value"], &result["slo"][1]["met"]), (&0.0.into(), &true.into()));

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let missed = ["--slo", "completed>99.9%", "--slo", "accept_delay.min<1ns", "--out", out];
    let output = loadgen(&[&SHORT[..], &missed].concat());
    let result = serde_json::to_value(RunResult::load(folder.path()).unwrap()).unwrap();
    assert_status(&output, &result, 3);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("✓ completed>99.9%       100.00 %"), "{report}");
    assert!(report.contains("✗ accept_delay.min<1ns"), "{report}");
}

#[test]
fn a_condition_to_abort_on_ends_the_run_with_a_partial_report() {
    let args = ["--rate", "200", "--duration", "10m", "--quiet", "--json", "-"];
    let abort = ["--abort-on", "refused>10m", "--abort-on", "completed>100@1s"];
    let output = loadgen(&[&["run"], &args[..], &abort].concat());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let result = json(&output);
    assert_eq!(result["aborted"]["expr"], "completed>100@1s");
    assert!(result["aborted"]["after_ns"].as_u64() >= Some(1_000_000_000), "{result:#}");
    assert!(result["aborted"]["value"].as_f64() > Some(100.0), "{result:#}");
    assert_eq!(result["interrupted"], true);
}

#[test]
fn an_expression_that_is_none_is_a_usage_error_before_anything_starts() {
    for (flag, text, part) in [
        ("--slo", "p99<1ms", "there is no outcome \"p99\""),
        ("--slo", "accept_delay.p99<1", "with its unit"),
        ("--abort-on", "refused>1@x", "delay after @"),
    ] {
        let refused = loadgen(&["run", flag, text, "--duration", "1h"]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains(flag) && stderr.contains(part), "{stderr}");
        assert!(refused.stdout.is_empty());
    }
}

/// Five rounds with this file in each.
fn rounds(folder: &Path, golden: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    for round in 1..=5 {
        let folder = folder.join(round.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(&golden, folder.join("result.json")).unwrap();
    }
}

#[test]
fn compare_reads_folders_of_rounds_and_its_json_is_a_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    rounds(&a, "v2-run.json");
    rounds(&b, "v2-run.json");
    let sides = [a.to_str().unwrap(), b.to_str().unwrap()];
    let output = loadgen(&["compare", sides[0], sides[1], "--quantile", "p99_9"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("p99.9") && report.contains("no difference seen"), "{report}");

    let output = loadgen(&["compare", sides[0], sides[1], "--json", "-"]);
    let result = json(&output);
    assert_eq!(result["kind"], "comparison");
    let comparison = &result["comparison"];
    assert_eq!((&comparison["paired"], &comparison["a"]["rounds"]), (&true.into(), &5.into()));
    assert_eq!(comparison["quantiles"][0]["quantile"], "p50");
    assert_eq!(comparison["quantiles"][1]["ratio"], 1.0);
    assert_eq!(comparison["quantiles"][1]["conclusion"]["verdict"], "no_difference_seen");

    let saved = folder.path().join("comparison.json");
    loadgen(&["compare", sides[0], sides[1], "--json", saved.to_str().unwrap()]);
    let again = loadgen(&["report", saved.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("no difference seen"), "{again:?}");
}

#[test]
fn compare_refuses_what_is_no_result_and_says_when_rounds_are_too_few() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let run = golden.join("v2-run.json");
    let (run, empty) = (run.to_str().unwrap(), folder.path().to_str().unwrap());
    let few = loadgen(&["compare", run, run]);
    assert_eq!(few.status.code(), Some(0), "{few:?}");
    assert!(String::from_utf8_lossy(&few.stdout).contains("too few rounds: 1 of the 5"), "{few:?}");
    for (args, part) in [
        (["compare", run, empty].as_slice(), "without a result.json"),
        (&["compare", run, "/nowhere"], "/nowhere"),
        (&["compare", run, run, "--phase", "waiting"], "accept_delay"),
        (&["compare", run, run, "--quantile", "p200"], "p0 to p100"),
    ] {
        let refused = loadgen(args);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(part), "{refused:?}");
    }
}
