//! What the generator does to the machine and to the server while it runs, as a user runs it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// `loadgen run` with JSON on stdout.
fn loadgen(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(args.split_whitespace()).args(["--quiet", "--json", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

/// The codes of the verdict's reasons.
fn reasons(result: &Value) -> Vec<&str> {
    let reasons = result["verdict"]["reasons"].as_array().expect("a list");
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

/// A server in this process, which answers each connection after a moment and keeps it open.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(got @ 1..) = stream.read(&mut buffer) {
                    thread::sleep(Duration::from_millis(20));
                    if stream.write_all(&buffer[..got]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

/// How often the generator's threads gave up their CPU to sleep (proc_pid_status(5)).
fn sleeps(loadgen: &Child) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", loadgen.id())).into_iter().flatten();
    let folders = tasks.filter_map(|task| Some(task.ok()?.path()));
    let named = |folder: &std::path::PathBuf| {
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        name.starts_with("generate-")
    };
    let count = |folder: std::path::PathBuf| {
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().last()?.parse::<u64>().ok()
    };
    folders.filter(named).filter_map(count).sum()
}

/// Between two arrivals the threads sleep, although connections are open: one that spins holds a
/// CPU that the server may want. Of 50 arrivals most have a sleep before them.
#[test]
fn the_generator_sleeps_while_it_waits_and_the_servers_wait_is_evidence() {
    let mut run = loadgen(&format!("{} --rate 50 --duration 1s --messages 1", server()));
    let mut child = run.spawn().expect("started");
    let mut slept = 0;
    while child.try_wait().expect("a child of ours").is_none() {
        slept = sleeps(&child).max(slept);
        thread::sleep(Duration::from_millis(5));
    }
    let result = json(&child.wait_with_output().expect("a child of ours"));
    assert_eq!(result["outcomes"]["attempted"], 50, "{:#}", result["outcomes"]);
    assert!(slept > 25, "slept {slept} times");
    let delay = &result["evidence"]["server_run_delay"];
    assert!(delay["total_ns"].is_u64(), "{:#}", result["evidence"]);
    assert_eq!(delay["generator_shares_cpus"], true, "{delay:#}");
}

/// A server in this process beside three threads of its own that never sleep, all on one CPU: two
/// of these wait at any time, whatever the generator does.
fn crowded_server() -> SocketAddr {
    let allowed = sched_getaffinity(None).expect("readable");
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("a CPU");
    let stay = move || {
        let mut only = CpuSet::new();
        only.set(first);
        sched_setaffinity(None, &only).expect("an allowed CPU");
    };
    for _ in 0..3 {
        thread::spawn(move || {
            stay();
            loop {
                std::hint::spin_loop();
            }
        });
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        stay();
        let mut open = Vec::new();
        open.extend(listener.incoming());
    });
    addr
}

/// The server's threads waited for each other, for many times the accept delay. That is in the
/// evidence, and the generator is not blamed for it.
#[test]
fn the_generator_is_not_blamed_for_threads_that_wait_for_each_other() {
    let args = format!("{} --rate 100 --duration 1s --observe diag --messages 0", crowded_server());
    let output = loadgen(&args).output().expect("started");
    let result = json(&output);
    let delay = &result["evidence"]["server_run_delay"];
    let (waited, held) = (&delay["total_ns"], &delay["held_by_generator_ns"]);
    assert!(waited.as_u64() > held.as_u64() && held.is_u64(), "{delay:#}");
    assert!(waited.as_u64() > Some(100 * 50_000), "{delay:#}");
    let reasons = reasons(&result);
    assert!(!reasons.contains(&"server_waited_for_cpu"), "{reasons:?} {delay:#}");
}

/// What cannot be reached ends at its time: the rest is an outcome, and the verdict has the rate.
#[test]
fn a_rate_that_cannot_be_reached_ends_at_its_time() {
    let output = loadgen("--rate 800k --duration 200ms --threads 1 --messages 0 --close rst")
        .output()
        .expect("started");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let result = json(&output);
    let outcomes = &result["outcomes"];
    assert_eq!(outcomes["attempted"], 160_000, "{outcomes:#}");
    assert!(outcomes["not_begun"].as_u64() > Some(0), "{outcomes:#}");
    let reasons = reasons(&result);
    assert!(reasons.contains(&"not_begun") && reasons.contains(&"rate_not_reached"), "{reasons:?}");
    let achieved = result["generator"]["achieved_rate"].as_f64().expect("a rate");
    assert!((1.0..800e3).contains(&achieved), "{achieved}");
}

/// A closed loop pauses after refusals, the longer the more there were in a row, instead of trying
/// 50,000 times a second.
#[test]
fn a_closed_loop_pauses_after_refusals() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    let nobody = socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("bound");
    let args = format!("{nobody} --concurrency 10 --duration 500ms --observe none");
    let output = loadgen(&args).output().expect("started");
    let result = json(&output);
    let attempted = result["outcomes"]["attempted"].as_u64().expect("a count");
    assert_eq!(result["outcomes"]["refused"], attempted, "{:#}", result["outcomes"]);
    // Pauses of 1, 2, 4 … 128 ms in each of ten places.
    assert!((10..=120).contains(&attempted), "{attempted}");
}

/// Each of two connections has a thread that is fed, however many threads were asked for.
#[test]
fn a_closed_loop_of_two_stays_two_on_four_threads() {
    let args = "--concurrency 2 --threads 4 --connections 300 --messages 1";
    let output = loadgen(args).output().expect("started");
    let result = json(&output);
    assert_eq!(result["outcomes"]["completed"], 300, "{:#}", result["outcomes"]);
    assert!(
        result["outcomes"].get("shed").is_none_or(|shed| shed == 0),
        "{:#}",
        result["outcomes"]
    );
    assert_eq!(result["generator"]["threads"], 2, "{:#}", result["generator"]);
}
