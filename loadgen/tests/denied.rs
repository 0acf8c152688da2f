//! The program where io_uring is denied, in each of the ways in which it is.

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

/// What a report calls it.
fn cause(denial: Denial) -> &'static str {
    match denial {
        Denial::Eperm | Denial::Enosys => "io_uring: denied by",
        Denial::Memlock => "io_uring: RLIMIT_MEMLOCK is 0 bytes",
    }
}

#[test]
fn the_first_command_measures_over_epoll_and_says_so() {
    for denial in Denial::ALL {
        let args = ["run", "--rate", "300", "--duration", "1s"];
        let Some(output) = denial.run(LOADGEN, &args) else { continue };
        assert!(matches!(output.status.code(), Some(0 | 4)), "{denial:?}: {output:?}");
        let report = stdout(&output);
        assert!(report.contains("300 attempted: 300 completed"), "{denial:?}: {report}");
        let head: Vec<&str> = report.lines().take(3).collect();
        let head = head.join(" ");
        for said in ["transport epoll; server: engine epoll", cause(denial)] {
            assert!(head.contains(said), "{denial:?}: {said}: {report}");
        }
        let said = format!("transport epoll: {}", cause(denial));
        assert!(stderr(&output).contains(&said), "{denial:?}: {}", stderr(&output));
    }
}

#[test]
fn what_was_asked_for_by_name_is_refused_with_the_cause_and_two_ways_out() {
    let transport = ["run", "--transport", "uring", "--connections", "150"];
    let engine = ["run", "--connections", "150", "--", "--engine", "uring"];
    for denial in [Denial::Eperm, Denial::Enosys] {
        for (args, instead) in [(&transport[..], "--transport epoll"), (&engine, "--engine epoll")]
        {
            let output = denial.run(LOADGEN, args).expect("anybody may install a filter");
            assert_eq!(output.status.code(), Some(1), "{denial:?}: {output:?}");
            let text = stderr(&output);
            for said in ["likely cause: denied by", "remedy: ", instead] {
                assert_eq!(text.matches(said).count(), 1, "{denial:?}: {said}: {text}");
            }
        }
    }
}

#[test]
fn hold_and_torture_work_as_well() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = echo.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in echo.incoming().map_while(Result::ok) {
            // Clients that end early have seen what they wanted.
            thread::spawn(move || drop(io::copy(&mut &stream, &mut &stream)));
        }
    });
    let hold = ["hold", "--connections", "300", "--duration", "100ms"];
    let torture = ["torture", &addr, "--quick", "--case", "half-close-1"];
    for args in [&hold[..], &torture] {
        let output = Denial::Eperm.run(LOADGEN, args).expect("anybody may install a filter");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}

/// The file that the kernel would show is put in the place of the real one, for this one process.
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
    let output = Denial::Eperm.run("unshare", &args).expect("anybody may install a filter");
    if stderr(&output).contains("unshare") || output.status.code() == Some(77) {
        eprintln!("SKIPPED, no mounts of its own for this user: {}", stderr(&output));
        return;
    }
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    let head: Vec<String> = stdout(&output).lines().take(3).map(str::to_owned).collect();
    assert!(head.join(" ").contains("kernel.io_uring_disabled=2"), "{head:?}");
}
