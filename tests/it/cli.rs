//! Messages and exit codes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::thread;

use crate::support::{Server, connect, on_each_engine, program, round_trip};

fn run(args: &[&str]) -> Output {
    program().args(args).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_exits_with_two_and_names_the_flag() {
    for (args, named) in [
        (&["serve", "--backlog=-1"][..], "--backlog"),
        (&["serve", "--busy-poll", "soon"][..], "--busy-poll"),
        (&["serve", "--stall", "1s"][..], "--stall"),
        (&["serve", "--pool", "much"][..], "--pool"),
        (&["serve", "--napi", "0"][..], "--napi"),
        (&["serve", "--steer", "hash"][..], "--steer"),
        (&["serve", "--engine", "magic"][..], "--engine"),
        (&["serve", "--workers", "0"][..], "--workers"),
        (&["serve", "--ipv6-prefix", "0"][..], "--ipv6-prefix"),
        (&["ping", "--timeout", "0s"][..], "--timeout"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(named), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn numbers_that_do_not_fit_exit_with_one_and_a_remedy() {
    for (args, said) in [
        (&["serve", "--buffer", "1k"][..], "--buffer takes 4k to 64k"),
        (&["serve", "--credit", "16m"][..], "at most half the pool"),
        (&["serve", "--max-connections", "100000000", "--workers", "1"][..], "RLIMIT_NOFILE"),
        (&["serve", "--listen", "nonsense"][..], "expected HOST:PORT"),
        (&["serve", "--listen", "127.0.0.1:0", "--cpus", "1000"][..], "pinning to CPU 1000"),
        (&["serve", "--steer", "cbpf", "--workers", "2"][..], "needs --cpus with a CPU of its own"),
        (&["serve", "--napi", "50", "--engine", "epoll"][..], "--napi is a ring's"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn what_an_engine_cannot_do_is_refused_with_a_way_out() {
    let absent = ["build with --features tokio-uring"; 4];
    let there = ["use off", "size it with --buffer", "size it with --buffer", "--sandbox auto"];
    let said = if cfg!(feature = "tokio-uring") { there } else { absent };
    let flags = ["--busy-poll=50", "--pool=1m", "--credit=64k", "--sandbox=require"];
    for (flag, said) in flags.into_iter().zip(said) {
        let output = run(&["serve", "--engine", "tokio-uring", flag]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{flag}: {text}");
        assert!(text.contains("--engine tokio-uring: ") && text.contains(said), "{text}");
    }
}

#[test]
fn flags_have_twins_in_the_environment() {
    let output = program().arg("serve").env("URING_ECHO_BUFFER", "1k").output().expect("runs");
    assert!(stderr(&output).contains("--buffer takes 4k to 64k"), "{}", stderr(&output));
    let mut stamping = program();
    stamping.args(["serve", "--listen", "nonsense"]).env("URING_ECHO_STAMP", "1");
    assert_eq!(stamping.output().expect("runs").status.code(), Some(1), "1 means yes");
}

/// Nobody typed the flag that the error speaks of.
#[test]
fn an_error_about_a_value_from_the_environment_names_the_variable() {
    for (variable, value, status) in [
        ("URING_ECHO_WORKERS", "many", 2),
        ("URING_ECHO_ENGINE", "magic", 2),
        ("URING_ECHO_POOL", "9x", 2),
        ("URING_ECHO_BUFFER", "1k", 1),
    ] {
        let output = program().arg("serve").env(variable, value).output().expect("runs");
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert!(stderr(&output).contains(variable), "{}", stderr(&output));
    }
    let mut typed = program();
    typed.args(["serve", "--workers=few"]).env("URING_ECHO_WORKERS", "1");
    let output = typed.output().expect("runs");
    assert!(!stderr(&output).contains("URING_ECHO_WORKERS"), "{}", stderr(&output));
}

#[test]
fn ping_tries_the_addresses_in_turn_and_refuses_port_0() {
    let output = run(&["ping", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("port 0"), "{}", stderr(&output));
    let output = run(&["ping", "-6", "127.0.0.1:9"]);
    assert!(stderr(&output).contains("no address of the family"), "{}", stderr(&output));
    // The name's IPv6 address comes first where it has one, and nobody listens there.
    let Some(server) = Server::start("auto", &["--workers", "1"]) else { return };
    let output = run(&["ping", &format!("localhost:{}", server.addr().port())]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn ping_tells_an_echo_server_from_nothing_and_from_something_else() {
    for stamp in [&["--workers", "1"][..], &["--workers", "1", "--stamp"][..]] {
        on_each_engine(stamp, |server| {
            let output = run(&["ping", &server.addr().to_string()]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        });
    }
    let other = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = other.local_addr().expect("bound").to_string();
    let answering = thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("a ping");
        stream.write_all(&[b'?'; 64]).expect("answered");
        stream.read(&mut [0; 256]).expect("a ping")
    });
    let output = run(&["ping", &addr]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no echo server"), "{}", stderr(&output));
    answering.join().expect("answered");
    let output = run(&["ping", &addr]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("connect"), "{}", stderr(&output));
}

#[test]
fn the_doctor_agrees_with_whether_the_server_starts() {
    let output = run(&["doctor", "--json"]);
    let findings: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    let broken = findings.as_array().expect("a list").iter().any(|f| f["standing"] == "broken");
    assert_eq!(output.status.code(), Some(i32::from(broken)));
    let subjects: Vec<_> =
        findings.as_array().expect("a list").iter().map(|f| f["subject"].clone()).collect();
    assert!(subjects.contains(&"io_uring".into()) && subjects.contains(&"sandbox".into()));
    assert_eq!(Server::start("uring", &[]).is_none(), broken, "{findings}");
    assert!(Server::start("auto", &[]).is_some(), "{findings}");
}

#[test]
fn the_doctor_prints_a_profile_that_allows_io_uring() {
    let output = run(&["doctor", "--seccomp-profile"]);
    let profile: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(profile.to_string().contains("io_uring_setup"));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut serving = program();
    serving.args(["serve", "--listen", "nonsense"]);
    for name in ["WORKERS", "CPUS", "ENGINE", "STAMP", "MAX_CONNECTIONS", "IDLE_TIMEOUT", "LOG"] {
        serving.env(format!("URING_ECHO_{name}"), "");
    }
    let output = serving.output().expect("runs");
    assert_eq!(output.status.code(), Some(1), "not a usage error: {}", stderr(&output));
    assert!(stderr(&output).contains("expected HOST:PORT"), "{}", stderr(&output));
}

#[test]
fn what_ends_the_program_is_json_where_the_log_is_and_told_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = taken.local_addr().expect("bound").to_string();
    let serve = ["serve", "--engine", "epoll", "--cpus", "0", "--listen", &addr];
    let text = stderr(&run(&serve));
    assert_eq!(text.matches("Address already in use").count(), 1, "{text}");
    let text = stderr(&run(&[&serve[..], &["--log", "json"]].concat()));
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON, every line")).collect();
    let last = records.last().expect("a line");
    assert_eq!(last["level"], "ERROR");
    let message = last["fields"]["message"].as_str().expect("a text");
    assert!(message.starts_with("bind ") && message.contains("ss -ltnp"), "{message}");
    let starting = &records.first().expect("a line")["fields"];
    assert_eq!(starting["message"], "starting");
    assert_eq!((&starting["engine"], &starting["backlog"]), (&"epoll".into(), &4096.into()));
    // As the flags take them.
    let words = [&starting["busy_poll"], &starting["sandbox"], &starting["cpus"]];
    assert_eq!(words, ["auto", "auto", "0"]);
}

#[test]
fn ping_tells_full_from_dead_and_takes_the_servers_variable() {
    on_each_engine(&["--workers", "1", "--max-connections", "1"], |server| {
        let ping = || {
            let mut ping = program();
            ping.args(["ping", "--timeout", "300ms"]);
            ping.env("URING_ECHO_LISTEN", format!("{},[::1]:1", server.addr()));
            ping.output().expect("runs")
        };
        let output = ping();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let mut only = connect(server.addr());
        round_trip(&mut only, b"full now");
        let output = ping();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("no echo within 300ms"), "{}", stderr(&output));
    });
    on_each_engine(&["--workers", "1", "--max-per-ip", "1"], |server| {
        let mut only = connect(server.addr());
        round_trip(&mut only, b"one of one");
        let output = run(&["ping", &server.addr().to_string()]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("--max-per-ip"), "{}", stderr(&output));
    });
}
