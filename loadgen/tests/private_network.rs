//! `loadgen hold --private-network` as a user runs it.

#[path = "common/namespace.rs"]
mod common;
#[path = "../../tests/support/denied.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::model::result::RunResult;
use rustix::process::{Pid, Signal, getuid, kill_process};
use support::Denial;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether no namespace can be made here; then it has to have been refused properly.
fn is_skipped(output: &Output) -> bool {
    let told = stderr(output);
    let refused = told.contains("--private-network:") && output.status.code() == Some(1);
    let skipped = refused && std::env::var_os("REQUIRE_URING").is_none();
    if skipped {
        assert!(told.contains("likely cause: ") && told.contains("remedy: "), "{told}");
        eprintln!("SKIPPED, no network namespace can be made here: {told}");
    }
    skipped
}

/// 200 connections in the namespace, with the program at this path.
fn hold(mut command: Command) -> Option<RunResult> {
    command.args(["hold", "--private-network", "--connections", "200", "--json", "-"]);
    command.args(["--probe-rate", "100", "--duration", "300ms"]).stdin(Stdio::null());
    let output = command.output().expect("started");
    if is_skipped(&output) {
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stderr(&output).contains("hold: private network: a network namespace"), "{output:?}");
    let result = RunResult::parse(&output.stdout).expect("a result");
    let hold = result.hold.as_ref().expect("the part of hold");
    assert_eq!((hold.opened, hold.echoed, hold.lost, hold.probes_failed), (200, 200, 0, 0));
    assert_eq!(result.histograms["accept_delay"].count, 30, "{hold:#?}");
    Some(result)
}

/// The kernel's own table, however long, is not smaller than this.
const LEAST: u64 = 1024;

fn is_sized(result: &RunResult) {
    let network = result.hold.as_ref().and_then(|hold| hold.private_network.as_ref());
    let network = network.expect("the part of hold");
    let settable = Path::new("/proc/sys/net/ipv4/tcp_child_ehash_entries");
    match &network.shared_because {
        None => assert!(network.hash_buckets >= Some(LEAST), "{network:?}"),
        Some(why) if settable.exists() => assert!(why.contains("cannot be"), "{network:?}"),
        Some(why) => assert!(why.contains("Linux before 6.1"), "{network:?}"),
    }
}

#[test]
fn connections_are_held_in_a_namespace_with_a_hash_table_of_its_own() {
    let Some(result) = hold(Command::new(LOADGEN)) else { return };
    is_sized(&result);
}

/// As containers have it.
#[test]
fn a_table_that_cannot_be_resized_is_shared_and_that_is_told() {
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
                  exec \"$LOADGEN\" hold --private-network --connections 20 --duration 100ms";
    let Some(output) = common::in_namespace(script) else { return };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (told, report) = (stderr(&output), String::from_utf8_lossy(&output.stdout));
    assert!(told.contains("a network namespace that shares the"), "{told}");
    let why = ["cannot be written (Read-only file system", "(Linux before 6.1)"];
    assert!(why.iter().any(|why| told.contains(why)), "{told}");
    assert!(report.contains("shares the machine's hash buckets"), "{report}");
}

/// Without root it takes a user namespace. A copy of the program, because a checkout may lie where
/// only root may look.
#[test]
fn whoever_is_not_root_has_a_namespace_too() {
    if !getuid().is_root() {
        return eprintln!("SKIPPED: the other tests of this file are without root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("its owner may");
    let copy = folder.path().join("loadgen");
    fs::copy(LOADGEN, &copy).expect("a copy");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&copy);
    let Some(result) = hold(command) else { return };
    is_sized(&result);
}

/// The network namespace of a process.
fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// A process that `parent` has started.
fn child_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").expect("a Linux").filter_map(Result::ok);
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may have spaces and brackets.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
    })
}

/// Reads what `hold` says until it names its private network; `None` if it ends before.
fn entered(child: &mut Child) -> Option<()> {
    let told = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = told.lines().map_while(Result::ok);
    let found = lines.find(|line| line.contains("hold: private network: "));
    // Nobody may wait for a reader.
    thread::spawn(move || lines.for_each(drop));
    found.map(drop)
}

#[test]
fn clients_and_server_are_in_it_and_a_signal_ends_them() {
    let mut command = Command::new(LOADGEN);
    command.args(["hold", "--private-network", "--connections", "20", "--duration", "10m"]);
    command.args(["--json", "-"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
    if entered(&mut child).is_none() {
        assert!(std::env::var_os("REQUIRE_URING").is_none(), "{:?}", child.wait_with_output());
        return eprintln!("SKIPPED, no network namespace can be made here");
    }
    let give_up = Instant::now() + Duration::from_secs(30);
    let server = loop {
        match child_of(child.id()) {
            Some(server) => break server,
            None => assert!(Instant::now() < give_up, "no server is started"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (inside, outside) = (namespace(child.id()), namespace(std::process::id()));
    assert!(inside.is_some() && outside.is_some());
    assert_ne!(inside, outside);
    assert_eq!(namespace(server), inside);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(RunResult::parse(&output.stdout).expect("a partial result").interrupted);
}

#[test]
fn what_is_outside_is_refused_as_a_mistake() {
    let outside: [(&[&str], &str); 3] = [
        (&["127.0.0.1:7777"], "the server 127.0.0.1:7777"),
        (&["--source", "10.0.0.0/24"], "--source 10.0.0.0/24"),
        (&["--", "--listen", "192.0.2.1:7777"], "--listen 192.0.2.1:7777"),
    ];
    for (args, named) in outside {
        let mut command = Command::new(LOADGEN);
        command.args(["hold", "--private-network"]).args(args).stdin(Stdio::null());
        let output = command.output().expect("started");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = stderr(&output);
        for part in [named, "nothing else can be reached", "leave --private-network out"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn where_namespaces_are_denied_it_says_by_what_and_what_to_do() {
    let args = ["hold", "--private-network", "--connections", "20"];
    let output = Denial::Namespaces.run(LOADGEN, &args).expect("a filter needs no privilege");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stderr(&output);
    for part in ["a user namespace", "not permitted", "seccomp", "unshare -n", "without"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
