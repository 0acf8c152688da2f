//! `loadgen run` and `loadgen report` as a user runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use loadgen::model::result::RunResult;
use loadgen::server::SERVE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use uring_echo::stamp::{AcceptMode, ClockDomain, Engine, Stamp};

fn loadgen(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(args.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &str) -> Output {
    loadgen(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// Accepts a VALID or INVALID run: on a busy machine the generator may be too late for VALID.
fn assert_reported(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
}

#[test]
fn the_embedded_server_accepts_every_connection() {
    for observe in ["stamp", "diag", "none"] {
        let args = format!("--rate 400 --connections 200 --observe {observe} --json - --quiet");
        let output = run(&args);
        assert_reported(&output);
        let result = json(&output);
        assert_eq!(result["outcomes"]["attempted"], 200);
        assert_eq!(result["outcomes"]["completed"], 200, "{:#}", result["outcomes"]);
        assert_eq!(result["target"]["observe"], observe);
        let carried = [&result["generator"]["transport"], &result["server"]["engine"]];
        assert!(carried == ["uring", "uring"] || std::env::var_os("REQUIRE_URING").is_none());
        let accepts = if observe == "none" { 0 } else { 200 };
        assert_eq!(result["histograms"]["accept_delay"]["count"], accepts);
        assert_eq!(result["histograms"]["echo_rtt"]["count"], 200);
        let silent = output.stderr.is_empty() || carried != ["uring", "uring"];
        assert!(silent, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn epoll_that_was_requested_is_not_reported_as_degraded() {
    let output = run("--burst 150 --transport epoll --json - --quiet -- --engine epoll");
    assert_reported(&output);
    let result = json(&output);
    assert_eq!(result["outcomes"]["completed"], 150, "{:#}", result["outcomes"]);
    for side in [&result["generator"], &result["server"]] {
        assert!(side["degraded"].as_array().is_none_or(Vec::is_empty), "{side:#}");
    }
    assert_eq!(result["generator"]["transport"], "epoll");
    assert_eq!(result["server"]["engine"], "epoll");
}

#[test]
fn a_log_level_asks_the_embedded_server_for_no_line_per_connection() {
    let mut command = loadgen("--burst 20 --json -");
    let output = command.env("RUST_LOG", "debug").output().unwrap();
    assert_reported(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("accepted"), "{stderr}");
}

#[test]
fn a_run_prints_the_report_and_writes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("--burst 150 --out {}", folder.path().display());
    let output = run(&args);
    assert_reported(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("150 attempted: 150 completed"), "{text}");
    for name in ["result.json", "run.hlog", "accept_delay.hgrm"] {
        assert!(folder.path().join(name).is_file(), "{name}");
        assert!(text.contains(name), "{text}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("preflight: ports"));
}

#[test]
fn a_server_without_stamps_is_observed_by_diag_unasked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // The thread lives as long as the process of this test.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = run(&format!("{addr} --rate 300 --connections 150 --json -"));
    assert_reported(&output);
    let result = json(&output);
    assert_eq!(result["target"]["observe"], "diag");
    assert_eq!(result["outcomes"]["completed"], 150, "{:#}", result["outcomes"]);
    assert_eq!(result["histograms"]["accept_delay"]["count"], 150);
}

#[test]
fn a_refused_connection_is_an_outcome_and_not_an_error() {
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = bound.local_addr().unwrap().as_socket().unwrap();
    let output = run(&format!("{addr} --rate 100 --connections 10 --json -"));
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let result = json(&output);
    assert_eq!(result["outcomes"]["refused"], 10);
    assert_eq!(result["errnos"][0]["errno"], 111);
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

#[test]
fn usage_and_runtime_errors_have_different_exit_codes() {
    let usage = loadgen("127.0.0.1:1 -- --stall 1s/2s").output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    let impossible = loadgen("--burst 500 --max-in-flight 10").output().unwrap();
    assert_eq!(impossible.status.code(), Some(1), "{impossible:?}");
    assert!(String::from_utf8_lossy(&impossible.stderr).contains("--max-in-flight"));
    let failed = run("-- --no-such-option");
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).contains("--no-such-option"));
}

#[test]
fn a_source_that_is_not_local_is_refused_before_the_server_starts() {
    for command in ["run --rate 10", "hold --connections 10"] {
        let mut loadgen = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        loadgen.args(command.split_whitespace()).args(["--source", "203.0.113.0/24"]);
        let refused = loadgen.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains("203.0.113.1") && stderr.contains("--source"), "{stderr}");
        assert!(refused.stdout.is_empty() && stderr.lines().count() == 1, "{refused:?}");
    }
}

/// Starts a run and reads stderr until its first progress line.
fn start_until_running(args: &str) -> Child {
    let mut child = loadgen(args).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.as_mut().unwrap());
    for line in stderr.lines() {
        let line = line.unwrap();
        if line.starts_with("t=") {
            return child;
        }
    }
    panic!("the run ended before its first progress line: {:?}", child.wait());
}

#[test]
fn an_interrupted_run_prints_a_partial_result() {
    let mut child = start_until_running("--rate 100 --duration 10m --json -");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["interrupted"], true);
    let count = |name: &str| result["outcomes"][name].as_u64().unwrap();
    assert!(count("attempted") > 0);
    let sum: u64 = result["outcomes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, 2 * count("attempted"), "the outcomes add up to the attempts");
}

/// The terminal was closed (SIGHUP): the files are still written.
#[test]
fn a_hangup_writes_a_partial_result() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("--rate 100 --duration 10m --out {}", folder.path().display());
    let child = start_until_running(&args);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted"), "{output:?}");
    assert!(RunResult::load(folder.path()).unwrap().interrupted);
}

#[test]
fn a_server_that_dies_ends_the_run_with_a_partial_report() {
    let child = start_until_running("--rate 100 --duration 10m");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let server: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(server).unwrap(), Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = String::from_utf8_lossy(&output.stdout);
    for part in ["accept_delay", "INVALID", "server_ended", "ended during the run (signal: 9"] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_long_drain_of_the_server_changes_neither_report_nor_exit_code() {
    let output = run("--rate 300 --duration 500ms -- --drain-delay 60s");
    assert_reported(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("150 completed"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("still draining"), "{output:?}");
}

#[test]
fn files_that_cannot_be_written_are_an_error_before_the_run() {
    for place in ["--out /proc/nothing", "--json /nowhere/at/all.json"] {
        let refused = loadgen(&format!("{place} --duration 1h")).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        let path = place.split(' ').next_back().unwrap();
        assert!(stderr.contains(path) && stderr.contains("cannot be written"), "{stderr}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn a_full_disk_loses_the_file_and_not_the_report() {
    let output = run("--burst 150 --json /dev/full");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("150 attempted: 150 completed"), "{report}");
    assert!(report.contains("/dev/full was not written"), "{report}");
}

#[test]
fn replacing_an_older_result_prints_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("--burst 150 --out {}", folder.path().display());
    let first = run(&args);
    assert!(!String::from_utf8_lossy(&first.stderr).contains("replaced"));
    let before = RunResult::load(folder.path()).unwrap();
    let second = run(&args);
    assert!(String::from_utf8_lossy(&second.stderr).contains("result.json is there already"));
    assert_ne!(RunResult::load(folder.path()).unwrap().run_id, before.run_id);
}

#[test]
fn report_prints_the_same_report_as_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let args = format!("--rate 300 --duration 1s --observe diag --out {}", folder.path().display());
    let ran = run(&args);
    let printed = String::from_utf8(ran.stdout).unwrap();
    let mut report = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let again = report.arg("report").arg(folder.path()).output().unwrap().stdout;
    let again = String::from_utf8(again).unwrap();
    let (report, files) = printed.split_at(printed.find("\nfiles ").unwrap() + 1);
    assert_eq!(again, report);
    assert!(files.contains("result.json"), "{files}");
}

#[test]
fn a_file_that_is_no_result_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("half.json");
    std::fs::write(&file, "{\"schema_version\": 2, ").unwrap();
    for (path, expected) in [(file.as_path(), "cut off"), (folder.path(), "without a result.json")]
    {
        let mut report = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let refused = report.arg("report").arg(path).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(expected), "{refused:?}");
    }
}

/// As docker/run does it: the server is not a child of loadgen, and `--server-log` gives its log.
#[test]
fn the_description_of_the_server_is_read_from_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.log");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    serve.args([SERVE, "--listen", "127.0.0.1:0", "--workers", "1", "--backlog", "77"]);
    serve.args(["--stall", "1ms/1h", "--stamp"]).stderr(std::fs::File::create(&log).unwrap());
    let mut server = serve.spawn().unwrap();
    let ready =
        |text: String| Some(text.split_once("listening addr=")?.1.split_once(' ')?.0.to_owned());
    let addr = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        ready(std::fs::read_to_string(&log).unwrap())
    });
    let result = addr
        .map(|addr| run(&format!("{addr} --burst 150 --json - --server-log {}", log.display())));
    server.kill().unwrap();
    server.wait().unwrap();
    let output = result.expect("the server listens");
    let result = json(&output);
    assert_eq!(result["server"]["backlog_effective"], 77, "{:#}", result["server"]);
    let argv = result["server"]["argv"].as_array().unwrap();
    assert!(argv.contains(&"1ms/1h".into()), "{argv:?}");
    let elsewhere = run(&format!("127.0.0.1:1 --burst 1 --server-log {}", log.display()));
    assert_eq!(elsewhere.status.code(), Some(1), "{elsewhere:?}");
}

#[test]
fn engine_and_accept_mode_are_read_from_a_stamp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let stamp = Stamp {
                worker: 0,
                engine: Engine::Epoll,
                accept: AcceptMode::Shared,
                accepted_monotonic_ns: uring_echo::clock::monotonic_ns(),
                accepted_realtime_ns: 1,
                sequence: 1,
                clock_domain: ClockDomain::current().unwrap(),
            };
            // Writing fails only if the client has closed already.
            drop(stream.write_all(&stamp.encode()));
        }
    });
    let args = format!("{addr} --burst 150 --messages 0 --json -");
    let output = run(&args);
    let server = &json(&output)["server"];
    assert_eq!((&server["engine"], &server["accept"]), (&"epoll".into(), &"shared".into()));
}
