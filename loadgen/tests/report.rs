//! The report of a made-up run: the schema to the letter, the files, and the text.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Parser;
use loadgen::cli::{Cli, Command};
use loadgen::evidence::environment::Environment;
use loadgen::evidence::{Conntrack, CpuUse, Evidence, KernelCounters, QueueEvidence};
use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::recorder::{Interval, Outcome, Phase, Recorder};
use loadgen::plan::config::{Observe, RunConfig};
use loadgen::render::terminal;
use loadgen::render::{self, ExitStatus, Finished, Report, Server, Style, Target};
use serde_json::Value;

fn config(args: &str) -> RunConfig {
    let words = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
    let Command::Run(run) = Cli::try_parse_from(words).expect(args).command else {
        panic!("not a run")
    };
    RunConfig::resolve(*run).expect(args)
}

fn started_at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)
}

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
            totals.absorb(&recorder.take_interval(end, Interval::new()));
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
            samples_failed: 0,
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

fn report_of(config: &RunConfig, totals: &Aggregate, interrupted: bool) -> Report {
    Report::of(Finished {
        config,
        argv: vec!["loadgen".into(), "run".into()],
        started_at: started_at(),
        target: Target {
            addr: "127.0.0.1:7777".into(),
            clock_domain: Some("00c0ffee00c0ffee".into()),
            observe: Observe::Stamp,
        },
        server: Server {
            engine: Some("uring".into()),
            accept: Some("reuseport".into()),
            workers: Some(1),
            backlog_effective: Some(4096),
            busy_poll: Some("auto".into()),
            degraded: Vec::new(),
        },
        messages: 1,
        environment: Environment::read(),
        totals,
        evidence: evidence(),
        interrupted,
    })
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_keys(value: &Value, expected: &str) {
    let missing: Vec<&str> =
        expected.split_whitespace().filter(|key| !keys(value).contains(key)).collect();
    assert!(missing.is_empty(), "missing {missing:?} in {:?}", keys(value));
}

#[test]
fn the_schema_is_kept_to_the_letter() {
    let (config, totals) = (config("--threads 2 --label host=a --source 127.0.0.0/30"), totals());
    let json = serde_json::to_value(report_of(&config, &totals, false)).unwrap();

    assert_keys(
        &json,
        "schema_version tool_version started_at argv labels environment target server load \
         outcomes histograms intervals evidence verdict slo interrupted warmup_excluded \
         accepted_before_return censored errnos generator",
    );
    assert_keys(
        &json["environment"],
        "kernel cpu cpus_used governor mitigations somaxconn memlock nofile seccomp container",
    );
    assert_keys(&json["target"], "addr clock_domain observe");
    assert_keys(&json["server"], "engine accept workers backlog_effective busy_poll degraded");
    assert_keys(&json["load"], "shape rate");
    assert_keys(&json["verdict"], "valid reasons");
    let percentiles =
        "unit count min mean stdev p50 p90 p99 p99_9 p99_99 max hdr_v2_deflate_base64";
    for summary in json["histograms"].as_object().unwrap().values() {
        assert_keys(summary, percentiles);
        assert_eq!(keys(summary).len(), percentiles.split(' ').count());
    }
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["started_at"], "2023-11-14T22:13:20.250Z");
    assert_eq!(json["labels"]["host"], "a");
    assert_eq!(json["histograms"]["accept_delay"]["unit"], "ns");
    assert_eq!(json["intervals"].as_array().unwrap().len(), 10);
}

#[test]
fn every_outcome_is_named_and_they_add_up() {
    let (config, totals) = (config("--threads 2"), totals());
    let json = serde_json::to_value(report_of(&config, &totals, false)).unwrap();
    let outcomes = json["outcomes"].as_object().unwrap();
    let expected: BTreeSet<&str> =
        Outcome::ALL.iter().map(|o| o.name()).chain(["attempted"]).collect();
    assert_eq!(keys(&json["outcomes"]), expected);
    let sum: u64 = outcomes
        .iter()
        .filter(|(name, _)| *name != "attempted")
        .map(|(_, n)| n.as_u64().unwrap())
        .sum();
    assert_eq!(outcomes["attempted"], 30_000);
    assert_eq!(sum, 30_000);
    assert_eq!(json["histograms"]["accept_delay"]["count"], outcomes["completed"]);
    assert_eq!(json["errnos"][0]["errno"], 104);
    assert_eq!(json["errnos"][0]["count"], 20);
}

#[test]
fn a_report_survives_being_written_and_read() {
    let (config, totals) = (config("--threads 2"), totals());
    let report = report_of(&config, &totals, false);
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
    let decoded = read.histograms["accept_delay"].histogram().unwrap();
    assert_eq!(decoded, *totals.all().histogram(Phase::AcceptDelay));
}

#[test]
fn the_exit_status_tells_fine_invalid_and_interrupted_apart() {
    let totals = totals();
    let status = |args, interrupted| report_of(&config(args), &totals, interrupted).exit_status();
    assert_eq!(status("--threads 2", false), ExitStatus::Fine);
    assert_eq!(status("--threads 2 --rate 4000", false), ExitStatus::Invalid);
    assert_eq!(status("--threads 2", true), ExitStatus::Interrupted);
}

#[test]
fn a_folder_is_made_and_an_older_result_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/b");
    let totals = totals();
    for json in ["old", "new"] {
        let files = render::write_folder(&out, json, &totals, started_at()).unwrap();
        assert!(files.iter().all(|file| file.is_file()));
    }
    assert_eq!(std::fs::read_to_string(out.join("result.json")).unwrap(), "new");
    let mut names: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["accept_delay.hgrm", "result.json", "run.hlog"]);

    assert!(out.join("run.hlog").metadata().unwrap().len() > 1000);

    let error = render::write_folder(Path::new("/proc/nothing"), "", &totals, started_at());
    assert!(error.unwrap_err().to_string().contains("/proc/nothing"));
}

#[test]
fn the_text_fits_80_columns_and_says_what_matters() {
    let (config, totals) = (config("--threads 2 --rate 4000"), totals());
    let files = ["results/result.json".into()];
    let text =
        terminal::render(&report_of(&config, &totals, false), &files, Style { color: false });
    println!("{text}");
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    for expected in [
        "accept_delay",
        "29,980 completed, 20 reset_after_connect",
        "INVALID",
        "rate_not_reached",
        "20 × reset_after_connect: Connection reset by peer",
        "results/result.json",
    ] {
        assert!(text.contains(expected), "{expected} is missing");
    }
    assert!(!text.contains('\x1b'));
}
