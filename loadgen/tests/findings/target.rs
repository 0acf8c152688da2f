//! Which address is meant, and what is said where it cannot be.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{in_namespace, json, loadgen, stderr, stdout};

#[test]
fn port_0_is_refused_as_a_target() {
    for command in ["run", "hold", "torture", "trace"] {
        let output = loadgen(&format!("{command} 127.0.0.1:0"));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains("port 0"), "{}", stderr(&output));
    }
}

/// A name with two addresses, the first of which has no listener.
#[test]
fn the_addresses_of_a_name_are_tried_in_order() {
    let script = |args: &str| {
        format!(
            "printf '::1 both\\n127.0.0.1 both\\n' >/run/hosts-of-this-test && \
             mount --bind /run/hosts-of-this-test /etc/hosts && \
             $LOADGEN __serve --listen 127.0.0.1:7700 --workers 1 --engine epoll 2>/dev/null & \
             $LOADGEN torture 127.0.0.1:7700 --wait-for-server 30s --case half-close-0 >/dev/null \
             2>&1; until grep -q both /etc/hosts; do sleep 0.05; done; \
             $LOADGEN {args}; status=$?; kill %1; exit $status"
        )
    };
    let run = "run both:7700 --rate 500 --connections 100 --json -";
    let Some(output) = in_namespace(&script(run)) else { return };
    let result = json(&output);
    assert_eq!(result["target"]["addr"], "127.0.0.1:7700");
    assert_eq!(result["outcomes"]["completed"], 100, "{:#}", result["outcomes"]);
    let told = stderr(&output);
    assert!(told.contains("[::1]:7700 failed") && told.contains("to 127.0.0.1:7700"), "{told}");
    for args in ["torture both:7700 --case half-close-1", "hold both:7700 --connections 5"] {
        let output = in_namespace(&script(args)).expect("it was possible before");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let output = in_namespace(&script("run -6 both:7700 --rate 100 --connections 20"));
    let output = output.expect("it was possible before");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(stdout(&output).contains("[::1]:7700"), "{output:?}");
}

#[test]
fn a_server_that_starts_later_is_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let listener = TcpListener::bind(free).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
    });
    let args = format!("run {free} --wait-for-server 60s --rate 500 --connections 100 --json -");
    let output = loadgen(&args);
    later.join().unwrap();
    assert_eq!(json(&output)["outcomes"]["completed"], 100, "{output:?}");
    assert!(stderr(&output).contains("listens after"), "{}", stderr(&output));
    let (_bound, nobody) = crate::support::refusing();
    let output = loadgen(&format!("run {nobody} --wait-for-server 150ms"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("150ms of waiting"), "{}", stderr(&output));
}

#[test]
fn ipv6_that_is_off_is_said_to_be_off() {
    let script = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && $LOADGEN run [::1]:9";
    let Some(output) = in_namespace(script) else { return };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = stderr(&output);
    assert!(told.contains("disable_ipv6") && !told.contains("--source"), "{told}");
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let output = loadgen("run --cpus 0,999 --connections 10");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("--cpus names CPU 999"), "{}", stderr(&output));
}

/// script(1) gives the program a terminal.
#[test]
fn a_dumb_terminal_gets_no_escapes() {
    let mut script = Command::new("script");
    let run = concat!(env!("CARGO_BIN_EXE_loadgen"), " run --rate 100 --duration 1500ms");
    script.args(["-qec", run, "/dev/null"]).env("TERM", "dumb").stdin(Stdio::null());
    let Ok(output) = script.output() else {
        eprintln!("SKIPPED, script(1) is not installed");
        return;
    };
    let text = stdout(&output);
    assert!(text.contains("verdict") && !text.contains('\u{1b}'), "{text:?}");
}

/// Servers print the address they are bound to, and people paste it: whatever of these names the
/// listener, its accepts are seen.
#[test]
fn every_way_to_name_a_listener_observes_its_accepts() {
    let cases = [
        ("0.0.0.0", &["0.0.0.0", "127.0.0.1", "127.0.0.9", "[::ffff:127.0.0.1]"] as &[_]),
        ("[::]", &["[::]", "0.0.0.0", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]),
        ("127.0.0.7", &["127.0.0.7", "[::ffff:127.0.0.7]"]),
        ("[::1]", &["[::1]"]),
    ];
    for (bound, targets) in cases {
        let Ok(listener) = TcpListener::bind(format!("{bound}:0")) else {
            eprintln!("SKIPPED, {bound} cannot be listened at");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
        for target in targets {
            let args = "--rate 500 --connections 20 --observe diag --timeout 5s --quiet --json -";
            let result = json(&loadgen(&format!("run {target}:{port} {args}")));
            assert_eq!(result["outcomes"]["completed"], 20, "{target} at {bound}: {result:#}");
            let seen = &result["histograms"]["accept_delay"]["count"];
            assert_eq!(*seen, 20, "{target} at {bound}: {result:#}");
        }
    }
}

/// Of listeners at several addresses of one port only the one that takes the connection counts.
#[test]
fn of_many_listeners_at_a_port_the_one_that_was_connected_to_is_observed() {
    let accepting = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = accepting.local_addr().unwrap().port();
    let silent = |host| TcpListener::bind(format!("127.0.0.{host}:{port}")).unwrap();
    let _silent: Vec<_> = (2..6).map(silent).collect();
    thread::spawn(move || accepting.incoming().map_while(Result::ok).collect::<Vec<_>>());
    let args = "--rate 500 --connections 20 --observe diag --quiet --json -";
    let result = json(&loadgen(&format!("run 127.0.0.1:{port} {args}")));
    assert_eq!(result["outcomes"]["completed"], 20, "{result:#}");
    assert_eq!(result["evidence"]["accept_queue"]["listeners"], 1, "{result:#}");
}
