//! The server where io_uring, or restricting itself, is denied.

#[path = "../support/denied.rs"]
mod launcher;

use serde_json::Value;

use launcher::{Denial, reachable};

use crate::support::{Server, connect, round_trip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_uring-echo");
const FILTERS: [Denial; 2] = [Denial::Eperm, Denial::Enosys];
const OF_THE_SANDBOX: [Denial; 2] = [Denial::SandboxEperm, Denial::SandboxKill];

#[test]
fn auto_serves_by_epoll_and_says_why() {
    for denial in FILTERS {
        let args = ["serve", "--engine", "auto", "--log", "json", "--listen", "127.0.0.1:0"];
        let server = Server::spawn(denial.command(PROGRAM, &args)).expect("epoll is everywhere");
        let ready = server.fields("listening");
        assert_eq!(ready["engine"], "epoll", "{ready}");
        let degraded = ready["degraded"].as_str().expect("a text");
        assert!(degraded.starts_with("io_uring: denied by"), "{degraded}");
        round_trip(&mut connect(server.addr()), b"by other means");
        assert!(server.end().success());
    }
}

#[test]
fn uring_is_strict_and_names_cause_remedy_and_epoll() {
    for denial in FILTERS {
        let output = denial.run(PROGRAM, &["serve"]).expect("anybody may install a filter");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        for said in
            ["io_uring_setup failed", "likely cause: denied by", "remedy: ", "--engine epoll"]
        {
            assert_eq!(text.matches(said).count(), 1, "{denial:?}: {said}: {text}");
        }
    }
}

#[test]
fn the_doctor_says_which_engines_run() {
    for (engine, standing) in [("uring", "broken"), ("auto", "less"), ("epoll", "less")] {
        let output = Denial::Eperm.run(PROGRAM, &["doctor", "--json", "--engine", engine]);
        let output = output.expect("anybody may install a filter");
        let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let about = |subject: &str| {
            let mut all = findings.as_array().expect("a list").iter();
            all.find(|finding| finding["subject"] == subject).expect("a finding").clone()
        };
        assert_eq!(about("io_uring")["standing"], standing, "{engine}: {findings}");
        let engines = about("engines")["found"].to_string();
        assert!(
            engines.contains("only epoll runs") && engines.contains("--transport"),
            "{engines}"
        );
        assert_eq!(output.status.code(), Some(i32::from(standing == "broken")), "{output:?}");
    }
}

/// Each ring of this size locks 148 KiB, and the one that makes the listeners 8.
#[test]
fn too_little_locked_memory_means_fewer_workers() {
    let flags = ["--workers", "8", "--listen", "127.0.0.1:0"];
    let doctor = |flags: &[&str]| {
        let args = [&["doctor", "--json"], flags].concat();
        let output = Denial::LittleMemlock.run(PROGRAM, &args)?;
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let of = |subject: &str| findings.iter().find(|f| f["subject"] == subject).cloned();
        Some((output.status.code(), of("io_uring")?, of("memlock")?))
    };
    let Some((code, io_uring, memlock)) = doctor(&flags) else { return };
    if io_uring["standing"] == "fine" {
        eprintln!("SKIPPED, this kernel does not count rings (before Linux 6.14)");
        return;
    }
    let found = io_uring["found"].as_str().expect("a text");
    assert_eq!((code, &io_uring["standing"]), (Some(0), &"less".into()), "{found}");
    assert!(found.starts_with("2 of 8 workers: RLIMIT_MEMLOCK is 409600"), "{found}");
    assert!(memlock["found"].as_str().expect("a text").contains("8 workers take 1192 KiB"));
    let (code, io_uring, _) = doctor(&["--workers", "2"]).expect("not skipped");
    assert_eq!((code, &io_uring["standing"]), (Some(0), &"fine".into()), "{io_uring}");

    let (_folder, program) = reachable(PROGRAM);
    let args = [&["serve", "--log", "json"], &flags[..]].concat();
    let server = Server::spawn(Denial::LittleMemlock.command(&program, &args));
    let server = server.expect("with two workers");
    let ready = server.fields("listening");
    assert_eq!(ready["workers"], 2, "{ready}");
    let degraded = ready["degraded"].as_str().expect("a text");
    assert!(degraded.contains("2 of 8 workers: RLIMIT_MEMLOCK is 409600"), "{degraded}");
    round_trip(&mut connect(server.addr()), b"by the two there are");
    assert!(server.end().success());
}

/// Both engines: what tries the restrictions is the same program again, started by the same line.
#[test]
fn a_filter_that_denies_the_sandbox_is_survived_and_named() {
    for denial in OF_THE_SANDBOX {
        for engine in ["uring", "epoll"] {
            let args = ["serve", "--engine", engine, "--log", "json", "--listen", "127.0.0.1:0"];
            let Some(server) = Server::spawn(denial.command(PROGRAM, &args)) else { return };
            let ready = server.fields("listening");
            assert_eq!(ready["sandbox"], "no_new_privs", "{denial:?}: {ready}");
            let degraded = ready["degraded"].as_str().expect("a text");
            for said in ["no landlock: ", "no seccomp: ", "denied by "] {
                assert!(degraded.contains(said), "{denial:?}: {said}: {degraded}");
            }
            let ends = degraded.contains("which ends a process that tries");
            assert_eq!(ends, denial == Denial::SandboxKill, "{degraded}");
            round_trip(&mut connect(server.addr()), b"less fenced in");
            assert!(server.end().success());
        }
    }
}

#[test]
fn a_required_sandbox_that_a_filter_denies_is_refused_by_name() {
    for denial in OF_THE_SANDBOX {
        let args = ["serve", "--engine", "epoll", "--sandbox", "require"];
        let args = [&args[..], &["--listen", "127.0.0.1:0"]].concat();
        let output = denial.run(PROGRAM, &args).expect("anybody may install a filter");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        let said = "--sandbox require: landlock is not to be had here: ";
        assert!(text.contains(said) && text.contains("denied by "), "{denial:?}: {text}");
    }
}
