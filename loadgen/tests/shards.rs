//! One plan divided among processes: `run --shard I/N --start-at T` and `merge`.

#[path = "common/echo_server.rs"]
mod echo_server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use echo_server::echo_server;
use loadgen::model::result::{RunResult, Shard};

fn loadgen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const PLAN: &str =
    "--rate 400 --arrivals poisson --seed 5 --duration 1s --observe none --messages 1";

fn run(addr: SocketAddr, out: &Path, more: &str) -> Child {
    let mut command = loadgen(&["run", &addr.to_string(), "--out"]);
    command.arg(out).args(PLAN.split_whitespace()).args(more.split_whitespace());
    command.spawn().expect("started")
}

/// A machine that does not keep the pace makes it INVALID: no matter here.
fn result(child: Child, out: &Path) -> RunResult {
    let output = child.wait_with_output().expect("a child of ours");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{stderr}");
    RunResult::load(out).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

fn merge(parts: &[PathBuf], out: &Path) -> Output {
    let mut command = loadgen(&["merge", "--out"]);
    command.arg(out).args(parts).output().expect("started")
}

#[test]
fn eight_shards_are_together_the_plan_of_one_run_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = |name: &str| folder.path().join(name);
    let addr = echo_server();
    let parts: Vec<PathBuf> = (0..8).map(|index| out(&format!("shard-{index}"))).collect();
    let shard = |(index, part): (usize, &PathBuf)| {
        run(addr, part, &format!("--shard {index}/8 --start-at +3s --source 127.8.0.0/28"))
    };
    let running: Vec<Child> = parts.iter().enumerate().map(shard).collect();
    let shards: Vec<RunResult> =
        running.into_iter().zip(&parts).map(|(child, part)| result(child, part)).collect();
    let whole = result(run(addr, &out("whole"), ""), &out("whole"));
    for (index, shard) in (0..).zip(&shards) {
        assert_eq!(shard.shard, Some(Shard { index, count: 8 }));
        let load = shard.load.as_ref().expect("the load of a run");
        assert_eq!(load.rate, Some(50.0));
        let times = shard.times.expect("the times of a run");
        assert!(times.load_began >= load.start_at.expect("asked for") - 1_000_000, "{times:?}");
    }

    let merged = merge(&parts, &out("all"));
    assert!(matches!(merged.status.code(), Some(0 | 4)), "{merged:?}");
    let all = RunResult::load(&out("all")).expect("the merged result");
    assert_eq!(all.outcomes.attempted, whole.outcomes.attempted);
    let sum: u64 = shards.iter().map(|shard| shard.outcomes.attempted).sum();
    assert_eq!(all.outcomes.attempted, sum);
    assert_eq!(all.load.as_ref().and_then(|load| load.rate), Some(400.0));
    let begun = shards.iter().filter_map(|shard| Some(shard.times?.load_began));
    let (first, last) = (begun.clone().min().unwrap_or(0), begun.max().unwrap_or(0));
    assert_eq!(all.start_skew_ns, Some(last - first));
    assert!(all.shard.is_none() && all.merged.len() == 8);

    let missing = merge(&parts[1..], &out("some"));
    let stderr = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("shard 0 of 8") && stderr.contains("missing"), "{stderr}");
}

#[test]
fn a_start_that_is_over_is_refused() {
    let addr = echo_server().to_string();
    let over =
        loadgen(&["run", &addr, "--start-at", "2020-01-01T00:00:00Z"]).output().expect("run");
    let stderr = String::from_utf8_lossy(&over.stderr);
    assert_eq!(over.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("ago"), "{stderr}");
    let late = loadgen(&["run", &addr, "--quiet", "--start-at", "+1ns"]).output().expect("run");
    let stderr = String::from_utf8_lossy(&late.stderr);
    assert_eq!(late.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("too late"), "{stderr}");
}
