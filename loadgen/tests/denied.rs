//! The program where io_uring is denied, for each way in which a system denies it.

#[path = "../../tests/support/denied.rs"]
mod support;

use std::io;
use std::net::TcpListener;
use std::process::Output;
use std::thread;

use support::Denial;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The cause that a report gives for the denial.
fn cause(denial: Denial) -> &'static str {
    match denial {
        Denial::Eperm | Denial::Enosys => "io_uring: denied by",
        Denial::Memlock => "io_uring: RLIMIT_MEMLOCK is 0 bytes",
        _ => unreachable!("io_uring is not denied"),
    }
}

#[test]
fn the_default_transport_falls_back_to_epoll_and_the_cause_is_reported() {
    for denial in Denial::ALL {
        let args = ["run", "--rate", "300", "--connections", "120"];
        let Some(output) = denial.run(LOADGEN, &args) else { continue };
        assert!(matches!(output.status.code(), Some(0 | 4)), "{denial:?}: {output:?}");
        let report = stdout(&output);
        assert!(report.contains("120 attempted: 120 completed"), "{denial:?}: {report}");
        let head: Vec<&str> = report.lines().take(3).collect();
        let head = head.join(" ");
        for expected in ["transport epoll; server: engine epoll", cause(denial)] {
            assert!(head.contains(expected), "{denial:?}: {expected}: {report}");
        }
        let expected = format!("transport epoll: {}", cause(denial));
        assert!(stderr(&output).contains(&expected), "{denial:?}: {}", stderr(&output));
    }
}

#[test]
fn processes_hold_connections_where_rings_cannot_and_the_cause_is_told() {
    for denial in Denial::ALL {
        let args = ["hold", "--connections", "30", "--duration", "100ms"];
        let Some(output) = denial.run(LOADGEN, &args) else { continue };
        assert_eq!(output.status.code(), Some(0), "{denial:?}: {output:?}");
        let report = stdout(&output);
        for expected in ["30 echoed", "by 1 process"] {
            assert!(report.contains(expected), "{denial:?}: {expected}: {report}");
        }
        let told = stderr(&output);
        for expected in ["holders: processes", cause(denial)] {
            assert!(told.contains(expected), "{denial:?}: {expected}: {told}");
        }
    }
    let args = ["hold", "--connections", "30", "--holders", "rings"];
    let output = Denial::Eperm.run(LOADGEN, &args).expect("a filter needs no privilege");
    let refused = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(refused.contains("io_uring: denied by"), "{refused}");
    assert!(refused.contains("--holders processes"), "{refused}");
}

#[test]
fn an_explicit_request_for_uring_is_refused_with_cause_and_remedies() {
    let transport = ["run", "--transport", "uring", "--connections", "150"];
    let engine = ["run", "--connections", "150", "--", "--engine", "uring"];
    for denial in [Denial::Eperm, Denial::Enosys] {
        for (args, instead) in [(&transport[..], "--transport epoll"), (&engine, "--engine epoll")]
        {
            let output = denial.run(LOADGEN, args).expect("a filter needs no privilege");
            assert_eq!(output.status.code(), Some(1), "{denial:?}: {output:?}");
            let text = stderr(&output);
            for expected in ["likely cause: denied by", "remedy: ", instead] {
                assert_eq!(text.matches(expected).count(), 1, "{denial:?}: {expected}: {text}");
            }
        }
    }
}

#[test]
fn hold_and_torture_run_where_io_uring_is_denied() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = echo.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in echo.incoming().map_while(Result::ok) {
            // An error means that the client has closed already.
            thread::spawn(move || drop(io::copy(&mut &stream, &mut &stream)));
        }
    });
    let hold = ["hold", "--connections", "300", "--duration", "100ms"];
    let torture = ["torture", &addr, "--quick", "--case", "half-close-1"];
    for args in [&hold[..], &torture] {
        let output = Denial::Eperm.run(LOADGEN, args).expect("a filter needs no privilege");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}

/// A file with a denying value is mounted over the sysctl, for this process only.
#[test]
fn a_sysctl_that_denies_it_is_named_with_its_value() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "2\n").unwrap();
    let bind = format!(
        "mount --bind {} /proc/sys/kernel/io_uring_disabled || exit 77; exec \"$0\" \"$@\"",
        file.path().display()
    );
    let run = ["run", "--connections", "150"];
    let args = [&["--mount", "sh", "-c", &bind, LOADGEN], &run[..]].concat();
    let output = Denial::Eperm.run("unshare", &args).expect("a filter needs no privilege");
    if stderr(&output).contains("unshare") || output.status.code() == Some(77) {
        eprintln!("SKIPPED, this user cannot create a mount namespace: {}", stderr(&output));
        return;
    }
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    let head: Vec<String> = stdout(&output).lines().take(3).map(str::to_owned).collect();
    assert!(head.join(" ").contains("kernel.io_uring_disabled=2"), "{head:?}");
}
