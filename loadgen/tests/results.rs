//! Results: a recording is written as a file, a file is rendered as a report, old files are read.

use std::collections::BTreeSet;
use std::path::Path;

use loadgen::analyse::{pace::Pace, verdict};
use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::recorder::{Recorder, Recording};
use loadgen::model::evidence::{
    Conntrack, CpuUse, Evidence, KernelCounters, QueueEvidence, QueuePoint,
};
use loadgen::model::load::{Arrivals, Load, Observe};
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::model::result::{Kind, RunResult, SCHEMA_VERSION};
use loadgen::model::verdict::Verdict;
use loadgen::render::{findings, hlog, terminal};
use serde_json::Value;

/// Ten seconds at 3000/s on two threads: most accepts take 8 to 10 µs, one in 200 milliseconds.
fn totals() -> Aggregate {
    let mut totals = Aggregate::new(2);
    let mut threads = [Recorder::new(), Recorder::new()];
    for second in 0..10 {
        for recorder in &mut threads {
            for i in 0..1500 {
                connection(recorder, second * 1_000_000_000 + i * 666_666, i);
            }
            let end = (second + 1) * 1_000_000_000;
            totals.absorb(&recorder.take_interval(end, Recording::new()));
        }
    }
    totals.finish();
    totals
}

fn connection(recorder: &mut Recorder, intended_ns: u64, i: u64) {
    let delay = if i % 200 == 7 { 1_000_000 + i * 20_000 } else { 8_000 + i % 1900 };
    recorder.attempt();
    recorder.connect_called(intended_ns, intended_ns + 300);
    recorder.record(Phase::Connect, 7_000 + i % 900);
    if i == 42 {
        recorder.outcome(Outcome::ResetAfterConnect, Some(104));
        return;
    }
    recorder.record(Phase::AcceptDelay, delay);
    recorder.record(Phase::AcceptResponse, delay + 300);
    match delay.checked_sub(8_100) {
        Some(wait) => recorder.record(Phase::PostConnectWait, wait),
        None => recorder.accepted_before_return(),
    }
    recorder.record(Phase::FirstByte, delay + 9_000);
    recorder.record(Phase::EchoRtt, 24_000 + i % 7000);
    recorder.bytes_sent(64);
    recorder.bytes_received(64);
    recorder.outcome(Outcome::Completed, None);
}

fn evidence() -> Evidence {
    let cpu = CpuUse { cpu_ns: 9_900_000_000, cores: 0.99, busiest_thread_cores: 0.99, threads: 3 };
    Evidence {
        elapsed_ns: 10_000_000_000,
        kernel: Some(KernelCounters { tcp_syn_retrans: 2, ..KernelCounters::default() }),
        accept_queue: Some(QueueEvidence {
            listeners: 1,
            limit: 4096,
            depth_max: 3,
            depth_mean: 0.02,
            samples: 998,
            samples_wanted: Some(1000),
            series: vec![
                QueuePoint { at_ns: 0, depth: 1 },
                QueuePoint { at_ns: 20_000_000, depth: 3 },
            ],
            samples_failed: 0,
            drops: Some(0),
        }),
        conntrack: Some(Conntrack {
            count_start: 27,
            count_peak: 30_123,
            count_end: 30_100,
            limit: 262_144,
            ..Conntrack::default()
        }),
        generator_cpu: Some(cpu),
        server_cpu: Some(CpuUse { cpu_ns: 420_000_000, cores: 0.42, ..cpu }),
        ..Evidence::default()
    }
}

fn result_of(aggregate: &Aggregate, rate: f64) -> RunResult {
    let mut result = RunResult {
        started_at: "2023-11-14T22:13:20.250Z".into(),
        load: Some(Load {
            shape: "rate".into(),
            rate: Some(rate),
            arrivals: Some(Arrivals::Constant),
            duration_ns: Some(10_000_000_000),
            messages: 1,
            size_bytes: 64,
            ..Load::default()
        }),
        evidence: evidence(),
        ..RunResult::default()
    };
    result.target.addr = "127.0.0.1:7777".into();
    result.target.observe = Observe::Stamp;
    result.server.engine = Some("uring".into());
    aggregate.write_into(&mut result);
    result.generator.target_rate = Pace::of(&result).map(|pace| pace.target);
    result.generator.achieved_rate = Pace::of(&result).map(|pace| pace.achieved);
    result.generator.cpu = result.evidence.generator_cpu;
    result.verdict = Verdict::of(
        verdict::reasons(&result).iter().map(findings::reason).collect(),
        verdict::advice(&result).iter().map(findings::advice).collect(),
    );
    result
}

fn json_of(result: &RunResult) -> Value {
    serde_json::from_str(&result.to_json()).expect("JSON")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_keys(value: &Value, expected: &str) {
    let missing: Vec<&str> =
        expected.split_whitespace().filter(|key| !keys(value).contains(key)).collect();
    assert!(missing.is_empty(), "missing {missing:?} in {:?}", keys(value));
}

const PERCENTILES: &str =
    "unit count min mean stdev p50 p90 p99 p99_9 p99_99 max hdr_v2_deflate_base64";

#[test]
fn the_fields_of_the_schema_are_present() {
    let json = json_of(&result_of(&totals(), 3000.0));
    assert_keys(
        &json,
        "schema_version kind run_id shard tool started_at times argv labels environment target \
         server load generator outcomes histograms intervals evidence verdict slo interrupted \
         problems errnos warmup_excluded accepted_before_return censored",
    );
    assert_keys(&json["tool"], "name version commit");
    assert_keys(
        &json["environment"],
        "kernel cpu cpus_used governor mitigations somaxconn memlock nofile seccomp container",
    );
    assert_keys(&json["target"], "addr clock_domain observe resolution");
    assert_keys(&json["server"], "engine accept workers backlog_effective busy_poll degraded argv");
    assert_keys(&json["load"], "shape rate");
    assert_keys(&json["generator"], "threads transport cpu target_rate achieved_rate");
    assert_keys(&json["verdict"], "valid reasons advice");
    for summary in json["histograms"].as_object().unwrap().values() {
        assert_keys(summary, PERCENTILES);
        assert_eq!(keys(summary).len(), PERCENTILES.split(' ').count());
    }
    assert_eq!((&json["schema_version"], &json["kind"]), (&2.into(), &"run".into()));
    assert_eq!(json["histograms"]["accept_delay"]["unit"], "ns");
    let intervals = json["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 10);
    assert_keys(&intervals[0], "start_ns length_ns outcomes histograms");
    assert_keys(&intervals[0]["histograms"]["accept_delay"], PERCENTILES);
}

#[test]
fn every_outcome_is_listed_and_they_add_up_to_the_attempts() {
    let json = json_of(&result_of(&totals(), 3000.0));
    let outcomes = json["outcomes"].as_object().unwrap();
    let expected: BTreeSet<&str> =
        Outcome::ALL.iter().map(|o| o.name()).chain(["attempted"]).collect();
    assert_eq!(keys(&json["outcomes"]), expected);
    let sum: u64 = outcomes
        .iter()
        .filter(|(name, _)| *name != "attempted")
        .map(|(_, n)| n.as_u64().unwrap())
        .sum();
    assert_eq!((&outcomes["attempted"], sum), (&30_000.into(), 30_000));
    assert_eq!(json["histograms"]["accept_delay"]["count"], outcomes["completed"]);
    assert_eq!(json["errnos"][0]["errno"], 104);
    assert_eq!(json["errnos"][0]["count"], 20);
}

#[test]
fn the_intervals_add_up_to_the_totals() {
    let result = result_of(&totals(), 3000.0);
    let (first, rest) = result.intervals.split_first().unwrap();
    let sum = rest.iter().try_fold(first.clone(), |sum, next| sum.merged(next)).unwrap();
    assert_eq!(sum.outcomes, result.outcomes);
    assert_eq!(sum.histograms, result.histograms);
}

#[test]
fn a_result_is_the_same_after_writing_and_reading() {
    let totals = totals();
    let result = result_of(&totals, 3000.0);
    let text = result.to_json();
    let read = RunResult::parse(text.as_bytes()).unwrap();
    assert_eq!(read.to_json(), text);
    assert_eq!(RunResult { original: None, ..read.clone() }, result);
    let decoded = read.histograms["accept_delay"].histogram().unwrap();
    assert_eq!(decoded, *totals.all().histogram(Phase::AcceptDelay));
}

#[test]
fn a_file_gives_the_same_report_and_log_as_the_run() {
    let result = result_of(&totals(), 4000.0);
    let read = RunResult::parse(result.to_json().as_bytes()).unwrap();
    let style = terminal::Style::default();
    assert_eq!(terminal::report(&read, style), terminal::report(&result, style));
    assert_eq!(hlog::render(&read), hlog::render(&result));
}

#[test]
fn the_text_report_fits_80_columns_and_contains_the_main_results() {
    let text = terminal::report(&result_of(&totals(), 4000.0), terminal::Style::default());
    println!("{text}");
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    for expected in [
        "accept_delay",
        "29,980 completed, 20 reset_after_connect",
        "INVALID",
        "rate_not_reached",
        "20 × reset_after_connect: Connection reset by peer",
    ] {
        assert!(text.contains(expected), "{expected} is missing");
    }
    assert!(!text.contains('\x1b'));
}

fn golden(name: &str) -> RunResult {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    RunResult::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn results_of_version_1_are_read() {
    let result = golden("v1-stamp.json");
    assert_eq!((result.schema_version, result.kind), (SCHEMA_VERSION, Kind::Run));
    assert_eq!((result.tool.name.as_str(), result.tool.version.as_str()), ("loadgen", "0.1.0"));
    assert!(result.run_id.starts_with("v1-") && result.times.is_none());
    assert_eq!(result.labels["scene"], "golden");
    assert_eq!(result.outcomes.of(Outcome::Completed), 600);
    assert_eq!(result.histograms["accept_delay"].histogram().unwrap().len(), 600);
    assert_eq!((result.intervals.len(), result.intervals[0].outcomes.attempted), (3, 201));
    assert_eq!(result.evidence.retransmission_schedule.unwrap().connect, 0);
    assert_eq!(golden("v1-stamp.json").run_id, result.run_id, "the same file gets the same run id");
    let text = terminal::report(&result, terminal::Style::default());
    assert!(text.contains("600 attempted: 600 completed"), "{text}");

    let observed = golden("v1-diag.json");
    assert_eq!(observed.target.observe, Observe::Diag);
    let resolution = observed.target.resolution.expect("from the widths of the brackets");
    assert_eq!(Some(resolution.p50_ns), observed.histograms["diag_resolution"].p50);
    assert_ne!(observed.run_id, result.run_id);
    let finding = &observed.verdict.reasons[0];
    assert!(!finding.code.is_empty() && !finding.text.is_empty(), "{finding:?}");
}

/// Renaming or removing a field breaks the programs that read it: these files never change.
#[test]
fn results_of_version_2_are_read_and_written_unchanged() {
    for (name, kind) in [
        ("v2-run.json", Kind::Run),
        ("v2-hold.json", Kind::Hold),
        ("v2-torture.json", Kind::Torture),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = std::fs::read_to_string(&path).expect(name);
        let result = golden(name);
        assert_eq!(result.kind, kind, "{name}");
        let (old, new): (Value, Value) = (
            serde_json::from_str(&text).unwrap(),
            serde_json::from_str(&result.to_json()).unwrap(),
        );
        assert_eq!(new, old, "{name}");
    }
}
