//! The embedded server: uring-echo as a child process of this program.
//!
//! A separate process, so that generator and server share no scheduler run queue (each is pinned
//! to its own CPUs), no allocator and no limits, as with any other server.

pub(crate) mod cpu_contention;
mod cpus;
mod log;

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, SendError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, iter};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

pub use cpus::{format_cpus, split_cpus};
pub use log::server_in_log;
use log::{Line, parse_line};

use crate::model::server::Server;

/// The hidden subcommand that runs the server in this program.
pub const SERVE: &str = "__serve";

/// How long the server may take until it listens.
pub const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to drain before a second SIGTERM tells it to exit at once, and how
/// long after that before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server in a child process, which is stopped when this value is dropped.
#[derive(Debug)]
pub struct EmbeddedServer {
    child: Child,
    log: Option<JoinHandle<()>>,
    listening: SocketAddr,
    description: Server,
}

impl EmbeddedServer {
    /// Starts the server with the user's `args` and returns when it listens. Options that the user
    /// did not give are added: a free port on 127.0.0.1, `--engine auto`, the CPUs `cpus` (a list
    /// such as `0-3,8`), and `--stamp` if `stamp` is set.
    ///
    /// The calling thread must live as long as the server: the kernel kills the server when the
    /// thread that started it ends (PR_SET_PDEATHSIG(2const)).
    ///
    /// # Errors
    /// [`EmbeddedError`], with the last log lines of a server that ended instead of listening.
    pub fn start(
        args: &[OsString],
        cpus: Option<&str>,
        stamp: bool,
    ) -> Result<Self, EmbeddedError> {
        let program = env::current_exe().map_err(EmbeddedError::Spawn)?;
        let mut command = Command::new(program);
        let given = GivenOptions::of(args, |name| env::var_os(name).is_some());
        let args: Vec<OsString> = [args, &given.added_args(cpus, stamp)].concat();
        command.arg(SERVE).args(&args);
        let mut server = Self::launch(command, READY_TIMEOUT)?;
        let argv = args.iter().map(|arg| arg.to_string_lossy().into_owned());
        server.description.argv = argv.collect();
        Ok(server)
    }

    /// The address to connect to: the first one it listens on, or loopback if that is a wildcard.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        reachable(self.listening)
    }

    /// The server's description of itself in its ready line.
    #[must_use]
    pub fn description(&self) -> &Server {
        &self.description
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the server has ended by itself.
    ///
    /// # Errors
    /// The error of waitpid(2).
    pub fn try_exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks the server to stop (SIGTERM). A server that still drains after [`STOP_TIMEOUT`] gets a
    /// second SIGTERM and exits at once: no client is connected to it any more. Returns a
    /// description of what went wrong.
    #[must_use]
    pub fn stop(self) -> Option<String> {
        self.stop_within(STOP_TIMEOUT)
    }

    /// The same, with another time until the second SIGTERM: for a server that has to close many
    /// connections.
    #[must_use]
    pub fn stop_within(mut self, patience: Duration) -> Option<String> {
        match self.end(patience) {
            Ok(Termination::Exited(status)) if status.success() => None,
            Ok(Termination::Exited(status)) => {
                Some(format!("the embedded server ended with {status}: its last lines are above"))
            }
            Ok(Termination::ExitedOnSecondSignal) => {
                print(format!("still draining after {patience:?}, so told to exit at once"));
                None
            }
            Ok(Termination::Killed) => Some(format!(
                "the embedded server did not stop within {:?} of SIGTERM and was killed",
                patience + STOP_TIMEOUT
            )),
            Err(error) => Some(format!("the embedded server could not be stopped: {error}")),
        }
    }

    /// Runs `command`, which logs to stderr as the server does, and waits for its ready line.
    fn launch(mut command: Command, within: Duration) -> Result<Self, EmbeddedError> {
        // A process group of its own: Ctrl-C at the terminal reaches the generator only, which then
        // stops the server.
        command.process_group(0);
        command.env(PARENT_ENV, std::process::id().to_string());
        if let Ok(filter) = env::var("RUST_LOG") {
            command.env("RUST_LOG", log_filter(&filter));
        }
        // The generator's stdout carries the report only, so the server's goes to stderr.
        let stdout = io::stderr().as_fd().try_clone_to_owned().map_err(EmbeddedError::Spawn)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(EmbeddedError::Spawn)?;
        let (sender, receiver) = mpsc::channel();
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = thread::Builder::new()
            .name("server-log".into())
            .spawn(move || follow_log(stderr, &sender));
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut server =
            Self { child, log: None, listening: unknown, description: Server::default() };
        server.log = Some(log.map_err(EmbeddedError::Spawn)?);
        (server.listening, server.description) = server.await_ready(&receiver, within)?;
        Ok(server)
    }

    fn await_ready(
        &mut self,
        events: &Receiver<LogEvent>,
        within: Duration,
    ) -> Result<(SocketAddr, Server), EmbeddedError> {
        match events.recv_timeout(within) {
            Ok(LogEvent::Ready(addr, server)) => Ok((addr, server)),
            Ok(LogEvent::EndOfLog(last_lines)) => {
                let status = self.child.wait().map_err(EmbeddedError::Spawn)?;
                self.join_log();
                Err(EmbeddedError::Ended { status, last_lines })
            }
            Err(_) => Err(EmbeddedError::NotReady { within }),
        }
    }

    fn end(&mut self, patience: Duration) -> io::Result<Termination> {
        let exited = self.child.try_wait()?.map(Termination::Exited);
        let termination = exited.map_or_else(|| self.terminate(patience), Ok);
        self.join_log();
        termination
    }

    /// The child was not waited for yet, so the process id cannot have been reused.
    fn terminate(&mut self, patience: Duration) -> io::Result<Termination> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        if let Some(status) = wait_until(&mut self.child, Instant::now() + patience)? {
            return Ok(Termination::Exited(status));
        }
        kill_process(pid, Signal::TERM)?;
        if wait_until(&mut self.child, Instant::now() + STOP_TIMEOUT)?.is_some() {
            return Ok(Termination::ExitedOnSecondSignal);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(Termination::Killed)
    }

    /// Called after the child has ended: its end of the pipe is closed, so the thread ends once it
    /// has read the last lines.
    fn join_log(&mut self) {
        let joined = self.log.take().map(JoinHandle::join);
        if matches!(joined, Some(Err(_))) {
            eprintln!("server: the log could not be followed to its end");
        }
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        if let Err(error) = self.end(STOP_TIMEOUT) {
            eprintln!("server: process {} could not be stopped: {error}", self.child.id());
        }
    }
}

/// How a server ended.
#[derive(Debug)]
enum Termination {
    /// By itself, or after one SIGTERM.
    Exited(ExitStatus),
    /// After the second SIGTERM, which ends the drain.
    ExitedOnSecondSignal,
    /// By SIGKILL.
    Killed,
}

/// Why there is no embedded server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The process could not be started or waited for.
    #[error("the embedded server could not be started")]
    Spawn(#[source] io::Error),
    /// It ended before it listened.
    #[error("the embedded server ended before it listened ({status}){}", indented(.last_lines))]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        last_lines: Vec<String>,
    },
    /// It runs but does not listen.
    #[error("the embedded server does not listen after {within:?}")]
    NotReady {
        /// The timeout.
        within: Duration,
    },
    /// The program that started this server has ended already.
    #[error("the program that started this server is gone")]
    Orphaned,
}

/// Called first by the server process: the kernel kills it when its parent ends, however that
/// happens (PR_SET_PDEATHSIG(2const)).
///
/// # Errors
/// [`EmbeddedError::Orphaned`] if the parent has ended already, else the error of prctl(2).
pub fn die_with_parent() -> Result<(), EmbeddedError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| EmbeddedError::Spawn(errno.into()))?;
    // If the parent ended before that call, this process has another parent now.
    let parent = getppid().map(|pid| pid.as_raw_pid().to_string());
    match env::var(PARENT_ENV) {
        Ok(expected) if Some(&expected) != parent.as_ref() => Err(EmbeddedError::Orphaned),
        _ => Ok(()),
    }
}

/// Which of the server's options the user has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GivenOptions {
    listen: bool,
    engine: bool,
    cpus: bool,
    stamp: bool,
}

impl GivenOptions {
    fn of(args: &[OsString], in_env: impl Fn(&str) -> bool) -> Self {
        Self {
            listen: has_option(args, "--listen") || in_env("URING_ECHO_LISTEN"),
            engine: has_option(args, "--engine") || in_env("URING_ECHO_ENGINE"),
            cpus: has_option(args, "--cpus") || in_env("URING_ECHO_CPUS"),
            stamp: has_option(args, "--stamp"),
        }
    }

    /// The arguments to append to the user's.
    fn added_args(self, cpus: Option<&str>, stamp: bool) -> Vec<OsString> {
        let mut added = vec!["--log", "json"];
        if stamp && !self.stamp {
            added.push("--stamp");
        }
        if !self.listen {
            added.extend(["--listen", "127.0.0.1:0"]);
        }
        if !self.engine {
            added.extend(["--engine", "auto"]);
        }
        if let Some(cpus) = cpus.filter(|_| !self.cpus) {
            added.extend(["--cpus", cpus]);
        }
        added.into_iter().map(OsString::from).collect()
    }
}

/// What the server logs if the user asks for `filter`: always its ready line, and never a line for
/// each connection, because that work would be measured as the server's.
fn log_filter(filter: &str) -> String {
    format!("{filter},uring_echo::server=info,uring_echo::peers=info")
}

/// Whether `--name`, or `--name=…`, is among `args`.
fn has_option(args: &[OsString], name: &str) -> bool {
    args.iter().map(OsString::as_os_str).map(OsStr::as_encoded_bytes).any(|arg| {
        arg.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    })
}

/// The value that a server with these arguments takes for `--name`, from its environment if need
/// be; `None` if nobody gave one.
#[must_use]
pub fn option_value(args: &[String], name: &str) -> Option<String> {
    let option = format!("--{name}");
    let given = args.iter().enumerate().rev().find_map(|(index, arg)| {
        let rest = arg.strip_prefix(&option)?;
        if rest.is_empty() {
            return args.get(index + 1).cloned();
        }
        rest.strip_prefix('=').map(str::to_owned)
    });
    let variable = format!("URING_ECHO_{}", name.to_uppercase().replace('-', "_"));
    given.or_else(|| env::var(variable).ok())
}

/// The address to connect to; a server that listens on a wildcard is reached through loopback.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// What the thread that follows the log sends to [`EmbeddedServer::await_ready`].
#[derive(Debug)]
enum LogEvent {
    /// The server listens.
    Ready(SocketAddr, Server),
    /// The log has ended; the messages that were not printed.
    EndOfLog(Vec<String>),
}

/// Reads the server's stderr to its end and prints its messages. Messages from before the ready
/// line are held back: if the server ends without one, they become part of the error.
fn follow_log(stderr: ChildStderr, events: &Sender<LogEvent>) {
    let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| parse_line(&String::from_utf8_lossy(&line)));
    let mut held = Vec::new();
    let mut ready = false;
    for line in lines {
        match line {
            Line::Listening(addr, server) if !ready => {
                ready = true;
                send(events, LogEvent::Ready(addr, server));
                held.drain(..).for_each(print);
            }
            Line::Message(text) if ready => print(text),
            Line::Message(text) => held.push(text),
            Line::Listening(..) | Line::Routine => {}
        }
    }
    send(events, LogEvent::EndOfLog(held));
}

/// The receiver is dropped after the first event or a timeout; messages that it cannot receive any
/// more are printed.
fn send(events: &Sender<LogEvent>, event: LogEvent) {
    if let Err(SendError(LogEvent::EndOfLog(held))) = events.send(event) {
        held.into_iter().for_each(print);
    }
}

fn print(text: String) {
    eprintln!("server: {text}");
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn indented(lines: &[String]) -> String {
    iter::once("").chain(lines.iter().map(String::as_str)).collect::<Vec<_>>().join("\n    ")
}

/// Environment variable by which the server checks that its parent is still the one that started
/// it.
const PARENT_ENV: &str = "LOADGEN_PARENT_PID";

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const LISTENING: &str = r#"{"level":"INFO","fields":{"message":"listening","addr":"0.0.0.0:7",
        "engine":"uring","workers":2}}"#;

    /// Starts a shell script in place of the server.
    fn launch(script: &str, within: Duration) -> Result<EmbeddedServer, EmbeddedError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("LISTENING", LISTENING.replace('\n', ""));
        EmbeddedServer::launch(command, within)
    }

    fn args(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_server_runs_until_it_is_stopped() {
        let script = r#"echo "$LISTENING" >&2; exec sleep 60"#;
        let mut server = launch(script, TIMEOUT).unwrap();
        assert_eq!(server.addr(), "127.0.0.1:7".parse().unwrap());
        let description = server.description();
        assert_eq!((description.engine.as_deref(), description.workers), (Some("uring"), Some(2)));
        assert_eq!(server.try_exited().unwrap(), None);
        assert!(server.pid() > 0);
        assert!(server.stop().unwrap().contains("SIGTERM"), "sleep ends by the signal");
    }

    #[test]
    fn dropping_it_ends_the_process() {
        let server = launch(r#"echo "$LISTENING" >&2; exec sleep 60"#, TIMEOUT).unwrap();
        let pid = Pid::from_child(&server.child);
        drop(server);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn the_error_contains_the_last_lines_of_a_server_that_ended() {
        let error = launch("echo first >&2; echo address in use >&2; exit 3", TIMEOUT).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("\n    first\n    address in use"), "{text}");
    }

    #[test]
    fn a_server_that_never_listens_is_an_error() {
        let error = launch("exec sleep 60", Duration::from_millis(1)).unwrap_err();
        assert!(matches!(error, EmbeddedError::NotReady { .. }));
    }

    #[test]
    fn a_server_that_exits_by_itself_is_reported() {
        let mut server = launch(r#"echo "$LISTENING" >&2; exit 4"#, TIMEOUT).unwrap();
        let status = wait_until(&mut server.child, Instant::now() + TIMEOUT).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(4));
        assert_eq!(server.try_exited().unwrap(), status);
        assert!(server.stop().unwrap().contains("exit status: 4"));
    }

    #[test]
    fn options_that_the_user_did_not_give_are_added() {
        let given = GivenOptions::of(&args(&["--stall", "1ms/1s"]), |_| false);
        let expected = "--log json --stamp --listen 127.0.0.1:0 --engine auto --cpus 0,1";
        let expected: Vec<_> = expected.split(' ').collect();
        assert_eq!(given.added_args(Some("0,1"), true), args(&expected));
    }

    #[test]
    fn values_of_options_are_found_the_last_one_first() {
        let args = ["--workers", "2", "--pool=1m", "--workers=3", "--stamp"].map(str::to_owned);
        let value = |name| option_value(&args, name);
        assert_eq!(
            (value("workers").as_deref(), value("pool").as_deref()),
            (Some("3"), Some("1m"))
        );
        assert_eq!((value("work"), value("credit")), (None, None));
    }

    #[test]
    fn options_that_the_user_gave_are_not_added() {
        let user_args = args(&["--listen=[::1]:0", "--engine=uring", "--cpus", "3", "--stamp"]);
        let given = GivenOptions::of(&user_args, |_| false);
        assert_eq!(given.added_args(Some("0"), true), args(&["--log", "json"]));
        let in_env = GivenOptions::of(&[], |name| name == "URING_ECHO_CPUS");
        let expected = GivenOptions { listen: false, engine: false, cpus: true, stamp: false };
        assert_eq!(in_env, expected);
        assert!(!has_option(&args(&["--listener"]), "--listen"));
    }
}
