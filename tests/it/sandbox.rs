//! The restrictions of the running process.

use std::env;
use std::fs::{self, File, Permissions};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::MemfdFlags;
use rustix::net::SendFlags;
use rustix::process::{PidfdFlags, Signal, getppid};
use uring_echo::config::SandboxMode;
use uring_echo::ring::{Ring, Setup};
use uring_echo::sandbox::{Sandbox, Uses};
use uring_echo::stamp::Engine;

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

/// A name, and an attempt that returns whether it succeeded.
type Breakout = (&'static str, fn() -> bool);

/// What a process may try: none of it ends with a result.
const BREAKOUTS: [Breakout; 12] = [
    ("signal the parent", || rustix::process::test_kill_process(parent()).is_ok()),
    ("open the parent", || rustix::process::pidfd_open(parent(), PidfdFlags::empty()).is_ok()),
    ("make a socket", || UdpSocket::bind("127.0.0.1:0").is_ok()),
    ("connect", || TcpStream::connect("127.0.0.1:9").is_ok()),
    ("write a file", || File::create("/dev/null").is_ok()),
    ("change a mode", || fs::set_permissions("/dev/null", Permissions::from_mode(0o666)).is_ok()),
    ("remove a file", || fs::remove_file("/nothing").is_ok()),
    ("make memory to run", || rustix::fs::memfd_create("x", MemfdFlags::empty()).is_ok()),
    ("start a program", || Command::new("true").status().is_ok()),
    ("start a thread", || thread::Builder::new().spawn(|| {}).is_ok()),
    ("make a ring", || Ring::new(&Setup::CALLS).is_ok()),
    ("change a limit", || uring_echo::sys::descriptors::raise_limit().is_ok()),
];

fn parent() -> rustix::process::Pid {
    getppid().expect("the test that started it")
}

#[test]
#[ignore = "not a test of its own: see breakouts_end_the_process"]
fn breaks_out() {
    let Ok(name) = env::var("BREAKOUT") else { return };
    let mut sandbox = Sandbox::new(SandboxMode::Require);
    sandbox
        .restrict_when_ready(Uses { engine: Engine::Uring, takeover: false, admin: None })
        .expect("a filter");
    let (_, breakout) = BREAKOUTS.iter().find(|(known, _)| *known == name).expect("a name");
    println!("survived: {}", breakout());
}

#[test]
fn breakouts_end_the_process() {
    for (name, _) in BREAKOUTS {
        let mut again = Command::new(env::current_exe().expect("a program"));
        again.args(["--exact", "sandbox::breaks_out", "--ignored", "--nocapture"]);
        let output = again.env("BREAKOUT", name).stdin(Stdio::null()).output().expect("starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}: {text}");
    }
}

/// A panic that collects a backtrace, and aborts.
#[test]
#[ignore = "not a test of its own: see a_panic_ends_as_a_panic_and_reads_nothing"]
fn panics_when_sealed() {
    if env::var_os("BREAKOUT").is_none() {
        return;
    }
    let mut sandbox = Sandbox::new(SandboxMode::Require);
    sandbox
        .restrict_when_ready(Uses { engine: Engine::Uring, takeover: false, admin: None })
        .expect("a filter");
    let denied = fs::read("/proc/self/status").expect_err("nothing is read any more").kind();
    println!("{denied:?} {}", std::backtrace::Backtrace::force_capture());
    std::process::abort();
}

#[test]
fn a_panic_ends_as_a_panic_and_reads_nothing() {
    let mut again = Command::new(env::current_exe().expect("a program"));
    again.args(["--exact", "sandbox::panics_when_sealed", "--ignored", "--nocapture"]);
    let output = again.env("BREAKOUT", "").stdin(Stdio::null()).output().expect("starts");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("PermissionDenied"), "{output:?}");
}

/// Data in the handshake connects without connect(2), and without landlock's look at the port.
#[test]
#[ignore = "not a test of its own: see a_send_that_connects_ends_the_process"]
fn sends_and_connects() {
    let Ok(addr) = env::var("FAST_OPEN") else { return };
    let addr: std::net::SocketAddr = addr.parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let mut sandbox = Sandbox::new(SandboxMode::Require);
    sandbox
        .restrict_when_ready(Uses { engine: Engine::Epoll, takeover: false, admin: None })
        .expect("a filter");
    let connecting = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
    println!("survived: {:?}", rustix::net::sendto(&socket, b"out", connecting, &addr));
}

#[test]
fn a_send_that_connects_ends_the_process() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("bound").to_string();
    let mut again = Command::new(env::current_exe().expect("a program"));
    again.args(["--exact", "sandbox::sends_and_connects", "--ignored", "--nocapture"]);
    let output = again.env("FAST_OPEN", addr).stdin(Stdio::null()).output().expect("starts");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn a_sealed_server_serves_floods_and_timeouts_and_ends_well() {
    on_each_engine(
        &["--write-timeout", "1s", "--idle-timeout", "60s", "--stall", "5ms/50ms"],
        |s| {
            let streams: Vec<TcpStream> = (0..50).map(|_| connect(s.addr())).collect();
            streams.into_iter().for_each(|mut stream| round_trip(&mut stream, &[7; 300_000]));
        },
    );
}
