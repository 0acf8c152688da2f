//! `loadgen sweep`, `find` and `calibrate` as a user runs them.

use std::process::{Command, Output, Stdio};

use loadgen::model::result::RunResult;
use serde_json::Value;

fn loadgen(args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_sweep_measures_every_cell_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let args = format!(
        "sweep --rates 300,400 --over backlog=5,64 --rounds 1 --connections 120 --out {} --json -",
        out.display()
    );
    let first = loadgen(&args);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let result = json(&first);
    assert_eq!(result["kind"], "sweep");
    let cells = result["sweep"]["cells"].as_array().unwrap();
    let names: Vec<&str> = cells.iter().filter_map(|cell| cell["name"].as_str()).collect();
    let expected =
        ["rate=300,backlog=5", "rate=300,backlog=64", "rate=400,backlog=5", "rate=400,backlog=64"];
    assert_eq!(names, expected);
    assert!(cells.iter().all(|cell| cell["rounds"] == 1 && cell["completed_share"] == 1.0));
    let round = |cell: &str| RunResult::load(&out.join(cell).join("1")).unwrap();
    assert_eq!(round(expected[1]).server.backlog_effective, Some(64));
    assert!(out.join("sweep.svg").is_file() && out.join("sweep.json").is_file());

    // One is gone and one half-written: these two are measured again, the others are not.
    let kept = round(expected[0]).run_id;
    std::fs::remove_dir_all(out.join(expected[1])).unwrap();
    std::fs::write(out.join(expected[2]).join("1/result.json"), "{\"schema_version\": 2").unwrap();
    let again = loadgen(&args);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(round(expected[0]).run_id, kept);
    assert_eq!(round(expected[2]).outcomes.attempted, 120);
    assert!(json(&again)["sweep"]["cells"].as_array().unwrap().iter().all(|it| it["rounds"] == 1));
    let told = String::from_utf8_lossy(&again.stderr).matches("measured before").count();
    assert_eq!(told, 2, "{again:?}");

    let other = loadgen(&args.replace("--connections 120", "--connections 130"));
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    assert!(String::from_utf8_lossy(&other.stderr).contains("other arguments"), "{other:?}");
}

#[test]
fn find_reports_the_highest_rate_and_its_curve() {
    let output = loadgen(
        "find --slo accept_delay.p50<20s --min 300 --max 300 --connections 120 --quiet --json -",
    );
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    let found = json(&output);
    let first = &found["curve"][0];
    assert_eq!(first["rate"], 300.0, "{found:#}");
    assert!(["server", "generator"].contains(&found["limit"].as_str().unwrap()), "{found:#}");
    assert_eq!(found["slo"][1], "completed>=99%");
    assert!(found["found_rate"].is_null() || found["found_rate"].as_f64() >= Some(300.0));
}

#[test]
fn an_objective_that_the_server_misses_at_once_has_no_rate() {
    let output =
        loadgen("find --slo accept_delay.min<1ns --min 300 --max 600 --connections 120 --json -");
    let found = json(&output);
    assert!(found["found_rate"].is_null(), "{found:#}");
    let expected = if found["limit"] == "server" { 3 } else { 4 };
    assert_eq!(output.status.code(), Some(expected), "{found:#}");
}

#[test]
fn what_cannot_be_swept_or_searched_is_a_usage_error() {
    for (args, part) in [
        ("sweep --over no-such-flag=1,2", "no-such-flag"),
        ("sweep --over backlog=5,many", "many"),
        ("sweep 127.0.0.1:1 --over backlog=5,6", "an address was given"),
        ("sweep --rates 0", "--rates"),
        ("sweep --rates 1k --slo nonsense", "no objective"),
        ("find", "--slo"),
        ("find --slo nonsense", "no objective"),
        ("find --slo refused==0 --min 2k --max 1k", "above --max"),
        ("run --rate -4", "expected a rate"),
        ("find --slo refused==0 --burst 5", "leave out"),
        ("find --slo refused==0 -- --no-such", "no-such"),
    ] {
        let refused = loadgen(args);
        assert_eq!(refused.status.code(), Some(2), "{args}: {refused:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains(part), "{args}: {stderr}");
        assert!(stderr.matches("no objective").count() < 2, "said once: {stderr}");
        assert!(refused.stdout.is_empty(), "{args}");
    }
}

#[test]
fn a_calibration_is_kept_and_quoted_by_later_reports() {
    let cache = tempfile::tempdir().unwrap();
    let loadgen = |args: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.env("XDG_CACHE_HOME", cache.path());
        command.args(args.split_whitespace()).stdin(Stdio::null()).output().unwrap()
    };
    let output = loadgen("calibrate --json -");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let floor = json(&output);
    assert!(floor["accept_delay"]["p50_ns"].as_u64() > Some(0), "{floor:#}");
    let result = json(&loadgen("run --burst 150 --quiet --json -"));
    assert_eq!(result["floor"], floor);
    let report = loadgen("run --burst 150 --quiet").stdout;
    assert!(String::from_utf8_lossy(&report).contains("floor         connect to accept at once"));
}
