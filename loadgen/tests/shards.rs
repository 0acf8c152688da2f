//! One plan divided among processes: `run --shard I/N --start-at T` and `merge`.
//!
//! The server of these tests records from where and when each connection came. Each shard has an
//! address of its own and connects in the order of its plan, so the record has the instants of
//! every shard, beside those that the plan gives it.

#[path = "common/echo_server.rs"]
mod echo_server;
#[path = "common/stamp.rs"]
mod stamp;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Parser;
use echo_server::echo_server;
use hdrhistogram::Histogram;
use loadgen::cli::{Cli, Command as Subcommand};
use loadgen::commands::run::options;
use loadgen::model::interval::Interval;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::model::result::{RunResult, Shard};
use loadgen::plan::schedule::{PlanShare, Schedule};
use stamp::stamp;
use uring_echo::clock::{monotonic_ns, realtime_ahead_ns};

fn loadgen(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// 524 arrivals at equal gaps, 124 of them before the end of the warm-up. Eight addresses.
const PLAN: &str = "--rate 400 --seed 5 --warmup 310ms --duration 1s --observe stamp --messages 1 \
                    --timeout 60s --source 127.8.0.0/29 --source 127.8.1.0/30";
const SHARDS: u32 = 8;
const WARMUP_NS: u64 = 310_000_000;

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

fn merge_refused(parts: &[PathBuf], out: &Path, names: &[&str]) {
    let refused = merge(parts, out);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(names.iter().all(|name| stderr.contains(name)), "{names:?}: {stderr}");
    assert!(!out.exists(), "something is written of what is refused");
}

/// The peer of each connection, and when it was accepted, monotonic.
type Record = Arc<Mutex<Vec<(IpAddr, u64)>>>;

/// Sends a stamp, then echoes.
fn recording_server() -> (SocketAddr, Record) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    // Nothing waits for a retransmission behind whoever came later.
    rustix::net::listen(&listener, 4096).expect("listens");
    let addr = listener.local_addr().expect("bound");
    let record = Record::default();
    let written = Arc::clone(&record);
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let accepted_ns = monotonic_ns();
            written.lock().expect("no panic").push((peer.ip(), accepted_ns));
            thread::spawn(move || {
                stream.write_all(&stamp(accepted_ns))?;
                std::io::copy(&mut stream.try_clone()?, &mut stream)
            });
        }
    });
    (addr, record)
}

/// What loadgen itself gives a shard of the plan: nanoseconds from the start.
fn planned(arrivals: &str, shard: PlanShare) -> Vec<u64> {
    let args = format!("loadgen run 127.0.0.1:1 {PLAN} {arrivals}");
    let Subcommand::Run(run) = Cli::try_parse_from(args.split_whitespace()).expect(&args).command
    else {
        panic!("{args}")
    };
    let mut config = options::resolve(&run).expect(&args);
    config.shard = shard;
    Schedule::for_thread(&config, PlanShare::WHOLE).expect("an open loop").collect()
}

fn before(plan: &[u64], end_ns: u64) -> u64 {
    plan.iter().filter(|&&at| at < end_ns).count() as u64
}

/// Whether these are the arrivals of the plan, on either side of the warm-up's end, all accounted
/// for: reached, or not begun in time by a busy machine.
fn check_counts(result: &RunResult, plan: &[u64]) {
    let warmup = before(plan, WARMUP_NS);
    assert_eq!(result.warmup_excluded, warmup);
    assert_eq!(result.outcomes.attempted, plan.len() as u64 - warmup);
    let ended = result.outcomes.of(Outcome::Completed) + result.outcomes.of(Outcome::NotBegun);
    assert_eq!(ended, result.outcomes.attempted, "{:?}", result.outcomes);
    assert_eq!(result.load.as_ref().map(|load| load.seed), Some(5));
    check_intervals(&result.intervals, plan);
}

/// Intervals tell when attempts began, which is never before they were due.
fn check_intervals(intervals: &[Interval], plan: &[u64]) {
    let (mut begun, mut end_ns) = (0, 0);
    for interval in intervals {
        begun += interval.outcomes.attempted + interval.warmup_excluded;
        end_ns = end_ns.max(interval.start_ns + interval.length_ns);
        assert!(begun <= before(plan, end_ns), "{begun} by {end_ns} ns");
    }
    assert_eq!(begun, plan.len() as u64);
}

/// Whether each connection came when the plan wanted it, later by what the result says, to within
/// a millisecond: that the clocks of both can be compared so well is taken for granted.
fn check_instants(result: &RunResult, plan: &[u64], accepted_ns: &[u64]) {
    const CLOCKS_NS: u64 = 1_000_000;
    let not_begun = result.outcomes.of(Outcome::NotBegun);
    assert_eq!(accepted_ns.len() as u64 + not_begun, plan.len() as u64);
    let began = result.times.expect("the times of a run").load_began;
    let start_ns = began.checked_add_signed(-realtime_ahead_ns()).expect("after the boot");
    let measured = plan.iter().zip(accepted_ns).filter(|&(&at, _)| at >= WARMUP_NS);
    let mut responses: Vec<u64> = measured
        .map(|(at, accepted)| (accepted + CLOCKS_NS).checked_sub(start_ns + at).expect("too early"))
        .collect();
    responses.sort_unstable();
    let told = result.sampled(Phase::AcceptResponse).expect("accepts").histogram().expect("sound");
    assert_eq!(told.len(), responses.len() as u64);
    for (sample, response) in samples(&told).zip(responses) {
        let most = told.highest_equivalent(sample) + 2 * CLOCKS_NS;
        let range = told.lowest_equivalent(sample)..=most;
        assert!(range.contains(&response), "{response} is not in {range:?}");
    }
}

/// All samples of a histogram, ascending.
fn samples(histogram: &Histogram<u64>) -> impl Iterator<Item = u64> {
    histogram
        .iter_recorded()
        .flat_map(|step| (0..step.count_at_value()).map(move |_| step.value_iterated_to()))
}

/// Starts all shards, to begin at one instant.
fn run_shards(addr: SocketAddr, parts: &[PathBuf], arrivals: &str) -> Vec<RunResult> {
    let start_at = humantime::format_rfc3339_nanos(SystemTime::now() + Duration::from_secs(3));
    let shard = |(index, part): (usize, &PathBuf)| {
        run(addr, part, &format!("{arrivals} --shard {index}/{SHARDS} --start-at {start_at}"))
    };
    let running: Vec<Child> = parts.iter().enumerate().map(shard).collect();
    running.into_iter().zip(parts).map(|(child, part)| result(child, part)).collect()
}

fn check_shard(result: &RunResult, index: u32, arrivals: &str, record: &[(IpAddr, u64)]) {
    assert_eq!(result.shard, Some(Shard { index, count: SHARDS }));
    let load = result.load.as_ref().expect("the load of a run");
    assert_eq!(load.rate, Some(50.0));
    assert_eq!(load.sources, ["127.8.0.0/29", "127.8.1.0/30"]);
    let times = result.times.expect("the times of a run");
    let off_ns = times.load_began.abs_diff(load.start_at.expect("asked for"));
    assert!(off_ns <= 1_000_000, "{times:?}");
    let plan = planned(arrivals, PlanShare { index, of: SHARDS });
    check_counts(result, &plan);
    let own = if index < 6 { [127, 8, 0, index + 1] } else { [127, 8, 1, index - 5] };
    let own = IpAddr::from(own.map(|byte| u8::try_from(byte).expect("a byte")));
    let of_it = record.iter().filter(|(peer, _)| *peer == own);
    check_instants(result, &plan, &of_it.map(|(_, accepted_ns)| *accepted_ns).collect::<Vec<_>>());
}

/// Eight processes, then one with the whole plan, and beside it one of the eight again.
fn eight_shards_are_the_plan_of_one(arrivals: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = |name: &str| folder.path().join(name);
    let (addr, record) = recording_server();
    let mut parts: Vec<PathBuf> = (0..SHARDS).map(|index| out(&format!("part-{index}"))).collect();
    let shards = run_shards(addr, &parts, arrivals);
    let record = std::mem::take(&mut *record.lock().expect("no panic"));
    for (index, shard) in (0..).zip(&shards) {
        check_shard(shard, index, arrivals, &record);
    }
    let again = run(addr, &out("again"), &format!("{arrivals} --shard 3/{SHARDS}"));
    let whole = result(run(addr, &out("whole"), arrivals), &out("whole"));
    let plan = planned(arrivals, PlanShare::WHOLE);
    check_counts(&whole, &plan);
    result(again, &out("again"));

    let merged = merge(&parts, &out("all"));
    assert!(matches!(merged.status.code(), Some(0 | 4)), "{merged:?}");
    let all = RunResult::load(&out("all")).expect("the merged result");
    check_counts(&all, &plan);
    let both = [&all, &whole].map(|result| (result.outcomes.attempted, result.warmup_excluded));
    assert_eq!(both[0], both[1]);
    let sum: u64 = shards.iter().map(|shard| shard.outcomes.attempted).sum();
    assert_eq!(all.outcomes.attempted, sum);
    assert_eq!(all.load.as_ref().and_then(|load| load.rate), Some(400.0));
    let begun = shards.iter().filter_map(|shard| Some(shard.times?.load_began));
    let (first, last) = (begun.clone().min().unwrap_or(0), begun.max().unwrap_or(0));
    assert_eq!(all.start_skew_ns, Some(last - first));
    assert!(all.shard.is_none() && all.merged.len() == 8);

    merge_refused(&parts[1..], &out("some"), &["shard 0 of 8", "missing"]);
    parts.push(out("again"));
    merge_refused(&parts, &out("some"), &["part-3", "again", "both shard 3 of 8"]);
    parts[8] = out("part-6");
    merge_refused(&parts, &out("some"), &["part-6", "the same run"]);
    parts[8] = out("whole");
    merge_refused(&parts, &out("some"), &["a whole run", "shard 0 of 8"]);
}

#[test]
fn eight_shards_at_equal_gaps_are_the_plan_of_one_run() {
    let plan = planned("--arrivals constant", PlanShare::WHOLE);
    assert_eq!((plan.len(), before(&plan, WARMUP_NS)), (524, 124));
    eight_shards_are_the_plan_of_one("--arrivals constant");
}

#[test]
fn eight_poisson_shards_are_the_plan_of_one_run() {
    eight_shards_are_the_plan_of_one("--arrivals poisson");
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
