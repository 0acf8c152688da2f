//! The restrictions of the running process.

use std::fs;

use rustix::process::Signal;

use crate::support::{ENGINES, Server, connect, on_each_engine, round_trip, tightest_sandbox};

#[test]
fn a_required_sandbox_is_whole_and_the_server_serves_in_it() {
    if !fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default().contains("landlock")
        && Server::start("uring", &["--sandbox", "require"]).is_none()
    {
        eprintln!("SKIPPED, no landlock here");
        return;
    }
    for engine in ENGINES {
        let args = ["--sandbox", tightest_sandbox(engine), "--workers", "2", "--stamp"];
        let Some(server) = Server::start(engine, &args) else { return };
        assert_eq!(server.fields("listening")["sandbox"], "no_new_privs landlock seccomp");
        round_trip_behind_stamp(&server);
        let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
        for task in fs::read_dir(tasks).expect("a process") {
            let status = fs::read_to_string(task.expect("a thread").path().join("status"));
            let status = status.expect("a thread");
            let has = |line| status.lines().any(|found| found == line);
            assert!(has("NoNewPrivs:\t1") && has("Seccomp:\t2"), "{status}");
        }
        server.signal(Signal::TERM);
        server.wait_clean_exit();
    }
}

fn round_trip_behind_stamp(server: &Server) {
    let mut stream = connect(server.addr());
    std::io::Read::read_exact(&mut stream, &mut [0; 64]).expect("a stamp");
    round_trip(&mut stream, b"fenced in and serving");
}

#[test]
fn off_gives_up_nothing() {
    on_each_engine(&["--sandbox", "off"], |server| {
        assert_eq!(server.fields("listening")["sandbox"], "");
        let status = format!("/proc/{}/status", server.pid().as_raw_nonzero());
        let status = fs::read_to_string(status).expect("a process");
        let own = fs::read_to_string("/proc/self/status").expect("this process");
        let mode =
            |text: &str| text.lines().find(|line| line.starts_with("Seccomp:")).map(str::to_owned);
        assert_eq!(mode(&status), mode(&own));
    });
}
