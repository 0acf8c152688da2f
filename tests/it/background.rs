//! `serve --background`: who asks ends once the server is ready, and the server replaces another.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::notify::Manager;
use crate::support::{HANDED_ON, Server, connect, round_trip, tightest_sandbox, wait_until};

const WATCHDOG: Duration = Duration::from_millis(400);

/// A service manager, and what it runs to reload the server that it started.
struct Service {
    manager: Manager,
    folder: TempDir,
    args: Vec<String>,
}

impl Service {
    fn start(engine: &str) -> Option<(Self, Server)> {
        let manager = Manager::new(true);
        let folder = TempDir::new().expect("a folder");
        let door = folder.path().join("door").to_string_lossy().into_owned();
        let args = ["--takeover", &door, "--sandbox", tightest_sandbox(engine)];
        let first = manager.start(engine, &args, WATCHDOG)?;
        manager.wait_for("READY=1");
        let args = ["serve", "--background", "--log", "json", "--engine", engine]
            .into_iter()
            .chain(args)
            .map(str::to_owned)
            .collect();
        Some((Self { manager, folder, args }, first))
    }

    /// As systemd runs it: the variables of the watchdog are for the process it starts, by number.
    fn reload(&self, listen: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\" 2>\"$LOG\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_uring-echo")).args(&self.args).args(["--listen", listen]);
        command.env_remove("RUST_LOG").env("LOG", self.log());
        self.manager.introduce(&mut command, WATCHDOG);
        command.output().expect("it starts")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn logged(&self, text: &str) -> bool {
        fs::read_to_string(self.log()).expect("a log").contains(text)
    }
}

/// A server that is nobody's child here, killed when dropped.
struct Orphan(Pid);

impl Orphan {
    fn named_in(message: &str) -> Self {
        let number = message.lines().find_map(|line| line.strip_prefix("MAINPID="));
        let number = number.unwrap_or_else(|| panic!("whose? {message}")).parse();
        Self(Pid::from_raw(number.expect("a number")).expect("a process"))
    }

    fn environment(&self) -> Vec<String> {
        let path = format!("/proc/{}/environ", self.0.as_raw_nonzero());
        let bytes = fs::read(path).expect("a process of ours");
        bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into()).collect()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        kill_process(self.0, Signal::KILL).ok();
    }
}

#[test]
fn a_server_in_the_background_replaces_the_one_that_a_manager_started() {
    for engine in ["uring", "epoll"] {
        let Some((service, first)) = Service::start(engine) else { return };
        let addr = first.addr();
        let mut open = connect(addr);
        round_trip(&mut open, b"before");
        let asked = service.reload(&addr.to_string());
        assert!(asked.status.success(), "{asked:?}");
        let ready = service.manager.wait_for("READY=1");
        let next = Orphan::named_in(&ready);
        assert_ne!(next.0, first.pid());
        // While the accepts of the first are being cancelled.
        round_trip(&mut connect(addr), b"served by either");
        wait_until("it says that it serves", || service.logged("\"inherited\":\"takeover\""));
        let environment = next.environment();
        assert!(environment.iter().any(|one| one.starts_with("WATCHDOG_USEC=")));
        assert!(!environment.iter().any(|one| one.starts_with("WATCHDOG_PID=")));
        first.wait_for_log(HANDED_ON).expect("a line");
        // The manager stops all processes of a service.
        first.signal(Signal::TERM);
        round_trip(&mut open, b"still served by the first");
        drop(open);
        first.wait_clean_exit();
        let told = service.manager.told();
        assert!(!told.iter().any(|one| one.contains("STOPPING")), "of the one that left: {told:?}");
        round_trip(&mut connect(addr), b"served by the next");
        kill_process(next.0, Signal::TERM).expect("it is there");
        service.manager.wait_for("STOPPING=1");
        wait_until("it has ended", || service.logged("\"message\":\"stopped\""));
    }
}

#[test]
fn a_server_in_the_background_that_cannot_start_leaves_the_manager_s_own() {
    for engine in ["uring", "epoll"] {
        let Some((service, first)) = Service::start(engine) else { return };
        let asked = service.reload("127.0.0.1:1");
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
        assert!(service.logged("does not name what is inherited"), "the reason");
        assert!(service.logged("ended before it was ready"), "what became of it");
        let told = service.manager.told();
        assert!(!told.iter().any(|one| one.contains("MAINPID")), "{told:?}");
        round_trip(&mut connect(first.addr()), b"served by the old one");
        first.signal(Signal::TERM);
        service.manager.wait_for("STOPPING=1");
        first.wait_clean_exit();
    }
}
