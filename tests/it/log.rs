//! A log that nobody reads, or that cannot be written, hurts nobody.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{ENGINES, addr_field, connect, program, round_trip, wait_until};

/// A server whose standard error belongs to the test; killed when dropped.
struct Logging(Child);

impl Logging {
    fn start(engine: &str, stderr: Stdio, args: &[&str]) -> Self {
        let mut command = program();
        command.args(["serve", "--engine", engine, "--log", "json"]).args(args);
        command.env("RUST_LOG", "debug").stderr(stderr);
        Self(command.spawn().expect("the program starts"))
    }

    /// With a pipe, of which everything up to the ready line is read.
    fn with_reader(engine: &str) -> Option<(Self, BufReader<ChildStderr>, SocketAddr)> {
        let args = ["--workers", "1", "--listen", "127.0.0.1:0", "--drain-timeout", "60s"];
        let mut server = Self::start(engine, Stdio::piped(), &args);
        let mut reader = BufReader::new(server.0.stderr.take().expect("piped"));
        let ready = wait_for(&mut reader, "listening");
        let required = std::env::var_os("REQUIRE_URING").is_some();
        assert!(ready.is_some() || !required, "the server did not start");
        Some((server, reader, addr_field(&ready?)))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("the server is there");
    }

    /// Drains with `open` connected: it is served until its client ends it, then all is well.
    fn drains(mut self, mut open: TcpStream) {
        self.signal(Signal::TERM);
        round_trip(&mut open, b"served while it drains");
        drop(open);
        let mut status = None;
        wait_until("the server ends", || {
            status = self.0.try_wait().expect("a child of ours");
            status.is_some()
        });
        assert_eq!(status.expect("just seen").code(), Some(0));
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads up to the line with this message; `None` at the end.
fn wait_for(reader: &mut impl BufRead, message: &str) -> Option<Value> {
    let records = reader.lines().map_while(Result::ok);
    let mut fields = records.filter_map(|line| {
        let record: Value = serde_json::from_str(&line).ok()?;
        Some(record["fields"].clone())
    });
    fields.find(|fields| fields["message"] == message)
}

#[test]
fn the_reader_of_the_log_goes_away() {
    for engine in ENGINES {
        let Some((server, reader, addr)) = Logging::with_reader(engine) else { return };
        let mut open = connect(addr);
        round_trip(&mut open, b"with a reader");
        drop(reader);
        (0..100).for_each(|_| round_trip(&mut connect(addr), b"each is a line in the log"));
        server.drains(open);
    }
}

#[test]
fn the_disk_that_takes_the_log_is_full() {
    for (engine, port) in ENGINES.into_iter().zip(7777..) {
        // Its ready line cannot be read: an address that nobody else uses.
        let [high, low] =
            u16::try_from(std::process::id() & 0xffff).expect("two bytes").to_be_bytes();
        let addr = SocketAddr::from(([127, high, low, 3], port));
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let args = ["--workers", "1", "--listen", &addr.to_string(), "--drain-timeout", "60s"];
        let mut server = Logging::start(engine, full.into(), &args);
        let mut first = None;
        wait_until("it listens or has ended", || {
            first = TcpStream::connect(addr).ok();
            first.is_some() || server.0.try_wait().expect("a child of ours").is_some()
        });
        let Some(first) = first else {
            assert!(std::env::var_os("REQUIRE_URING").is_none(), "it did not start");
            return;
        };
        drop(first);
        let mut open = connect(addr);
        round_trip(&mut open, b"not one line written");
        server.drains(open);
    }
}

#[test]
fn the_reader_of_the_log_stalls_and_losses_are_told() {
    for engine in ENGINES {
        let Some((server, mut reader, addr)) = Logging::with_reader(engine) else { return };
        let mut open = connect(addr);
        // Ten thousand lines of more than 150 bytes: more than the queue and the pipe hold.
        (0..10_000).for_each(|_| drop(connect(addr)));
        round_trip(&mut open, b"nobody waits for the log");
        let lost = wait_for(&mut reader, LOST).expect("told once there is a reader again");
        server.signal(Signal::TERM);
        round_trip(&mut open, b"served while it drains");
        drop(open);
        let stopped = wait_for(&mut reader, "stopped").expect("a summary");
        assert!(lost["lines"].as_u64().expect("a count") > 0, "{lost}");
        assert!(stopped["log_lines_lost"].as_u64() >= lost["lines"].as_u64(), "{stopped}");
        assert_eq!(stopped["accepted"], 10_001);
    }
}

const LOST: &str = "log lines were lost: whoever reads standard error is too slow";

/// A control group of this test, removed when dropped.
struct PidsGroup(PathBuf);

impl PidsGroup {
    /// `None`, loudly, where this user may not make one.
    fn new(name: &str, most: u32) -> Option<Self> {
        let parents = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let parent = parents.into_iter().find(|folder| folder.join("cgroup.procs").exists());
        let folder = parent?.join(format!("uring-echo-{name}-{}", std::process::id()));
        let made = fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join("pids.max"), most.to_string()));
        if let Err(error) = made {
            eprintln!("SKIPPED, no control group of its own: {error}");
            return None;
        }
        Some(Self(folder))
    }

    /// Runs the server in it.
    fn serve(&self, args: &[&str]) -> String {
        let mut command = Command::new("sh");
        let procs = self.0.join("cgroup.procs");
        command.args(["-c", "echo $$ >$0; exec \"$@\""]).arg(procs).arg(program().get_program());
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args).env_remove("RUST_LOG");
        let output = command.arg0("sh").output().expect("a shell");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// The log thread is the first one, then the signal library's, then workers.
#[test]
fn a_thread_that_cannot_be_started_names_the_limit() {
    for (most, thread) in [(1, "log"), (4, "echo-")] {
        let Some(group) = PidsGroup::new("pids", most) else { return };
        let text = group.serve(&["--engine", "epoll", "--workers", "8"]);
        let name = format!("starting the thread {thread}");
        let limit = format!("pids.max: {most})");
        for said in [name.as_str(), "the pids limit of the control group is reached", &limit] {
            assert!(text.contains(said), "{said}: {text}");
        }
        let text = group.serve(&["--engine", "epoll", "--workers", "8", "--log", "json"]);
        let record: Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(record["level"], "ERROR");
        assert!(record["fields"]["message"].as_str().expect("a text").contains(&name), "{record}");
    }
}
