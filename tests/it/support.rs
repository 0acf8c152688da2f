//! A server process under test and the plain blocking clients that test it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The engines that every test runs on.
#[cfg(feature = "tokio-uring")]
pub(crate) const ENGINES: [&str; 3] = ["uring", "epoll", "tokio-uring"];
#[cfg(not(feature = "tokio-uring"))]
pub(crate) const ENGINES: [&str; 2] = ["uring", "epoll"];

/// The strictest `--sandbox` of an engine: the rings of tokio-uring cannot be restricted.
pub(crate) fn tightest_sandbox(engine: &str) -> &'static str {
    if engine == "tokio-uring" { "auto" } else { "require" }
}

/// Whether an engine's connections share a pool of buffers: those of tokio-uring have one each.
pub(crate) fn has_pool(engine: &str) -> bool {
    engine != "tokio-uring"
}

/// What a server logs when another one serves in its place.
pub(crate) const HANDED_ON: &str = "a successor has taken over: draining";

/// Longer than anything takes on a busy machine, except for a hang.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uring-echo"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A running `uring-echo serve`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<Value>>>,
    pub(crate) addrs: Vec<SocketAddr>,
}

impl Server {
    /// Starts on a port of the kernel's choice with `args`; `None` if io_uring is not available
    /// here, which is an error where REQUIRE_URING is set.
    pub(crate) fn start(engine: &str, args: &[&str]) -> Option<Self> {
        let mut command = program();
        command.args(["serve", "--engine", engine, "--log", "json"]).args(args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Option<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().expect("piped");
        thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut server = Self { child, lines, seen, addrs: Vec::new() };
        let Some(first) = server.wait_for_log("listening") else {
            return server.explain_absence();
        };
        server.addrs.push(addr_field(&first));
        Some(server)
    }

    /// The program ended instead of listening.
    fn explain_absence(&mut self) -> Option<Self> {
        let status = self.child.wait().expect("a child");
        let seen = self.seen.lock().expect("no panic").clone();
        let required = std::env::var_os("REQUIRE_URING").is_some();
        assert!(!required, "the server did not start ({status}): {seen:?}");
        // If the machine could run the server, a missing io_uring is no reason to skip.
        let about_uring = seen.iter().any(|line| line.to_string().contains("io_uring"));
        let doctor = program().arg("doctor").stdout(Stdio::null()).status().expect("runs");
        assert!(!(about_uring && doctor.success()), "it did not start here: {seen:?}");
        eprintln!("SKIPPED, the server did not start here ({status}): {seen:?}");
        None
    }

    /// The bound address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Waits for a log line with this message and returns its fields; `None` if the log ended.
    pub(crate) fn wait_for_log(&self, message: &str) -> Option<Value> {
        loop {
            let line = self.lines.recv_timeout(TIMEOUT).ok()?;
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                self.seen.lock().expect("no panic").push(Value::String(line));
                continue;
            };
            let fields = value["fields"].clone();
            self.seen.lock().expect("no panic").push(fields.clone());
            if fields["message"] == message {
                return Some(fields);
            }
        }
    }

    /// The fields of a line that was read before.
    pub(crate) fn fields(&self, message: &str) -> Value {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().find(|fields| fields["message"] == message).expect("a line seen").clone()
    }

    /// How many lines read so far have this message.
    pub(crate) fn count_seen(&self, message: &str) -> usize {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().filter(|fields| fields["message"] == message).count()
    }

    /// Whether its connections are direct descriptors of a ring instead of file descriptors.
    pub(crate) fn has_direct_descriptors(&self) -> bool {
        self.fields("listening")["engine"] == "uring"
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server is there");
    }

    /// Stops the whole process (SIGSTOP) and waits until every thread has stopped: before that a
    /// thread may still accept a connection.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        wait_until("the server is stopped", || {
            let mut threads = std::fs::read_dir(&threads).expect("a child of ours");
            threads.all(|thread| {
                let stat = thread.expect("a thread").path().join("stat");
                let text = std::fs::read_to_string(stat).expect("a thread of a child of ours");
                text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            })
        });
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the process to end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        status.expect("just seen")
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn end(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for a successful exit: every accepted connection is closed, none cut short.
    pub(crate) fn wait_clean_exit(self) {
        let stopped = self.wait_for_log("stopped").expect("a summary");
        assert_eq!(stopped["accepted"], stopped["closed"], "{stopped}");
        assert_eq!(stopped["cut_short"], 0, "{stopped}");
        assert!(self.wait().success(), "it did not end well");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn addr_field(fields: &Value) -> SocketAddr {
    fields["addr"].as_str().expect("an address").parse().expect("an address")
}

/// Runs `test` against a server of every engine; afterwards every connection has to be closed.
pub(crate) fn on_each_engine(args: &[&str], test: impl Fn(&Server)) {
    for engine in ENGINES {
        if let Some(server) = Server::start(engine, args) {
            test(&server);
            server.signal(Signal::TERM);
            server.wait_clean_exit();
        }
    }
}

/// Waits until `condition` holds; a timeout fails and names what was waited for.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "waited too long until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a socket");
    stream
}

/// Bytes that differ from position to position and from `seed` to `seed`.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

/// Writes as much as the kernel takes while nobody reads; returns how much that was.
pub(crate) fn push_until_full(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("a slow reader was cut off: {error}"),
        }
    }
    sent
}

/// Sends `bytes` and expects exactly them back.
pub(crate) fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("sent");
    let mut echo = vec![0; bytes.len()];
    stream.read_exact(&mut echo).expect("echoed");
    assert!(echo == bytes, "the echo differs");
}

/// Sends everything from another thread, ends the stream, and reads until the server ends its own.
pub(crate) fn send_all_then_read_all(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut sender = stream.try_clone().expect("a socket");
    let bytes = bytes.to_vec();
    let sending = thread::spawn(move || {
        sender.write_all(&bytes).expect("sent");
        sender.shutdown(Shutdown::Write).expect("half-closed");
    });
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).expect("echoed to the end");
    sending.join().expect("sent");
    echo
}
