//! The embedded server: uring-echo as a child process of this program.
//!
//! A process of its own, so that generator and server share neither a scheduler's run queue (each
//! is pinned to its own CPUs) nor an allocator nor limits, as it would be with a foreign server.

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

pub use cpus::{joined, split_cpus};
pub use log::server_in_log;
use log::{Line, parse_line};

use crate::model::server::Server;

/// The hidden subcommand under which this program is the server.
pub const SERVE: &str = "__serve";

/// How long the server may take until it listens.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long the server may take to drain before it is told to exit at once, and then, before it is
/// killed.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A server that runs in a child process, and no longer than this value.
#[derive(Debug)]
pub struct EmbeddedServer {
    child: Child,
    log: Option<JoinHandle<()>>,
    listening: SocketAddr,
    description: Server,
}

impl EmbeddedServer {
    /// Starts the server with the user's `args` and returns when it listens. What the user did not
    /// say is added: a port of its own choice on 127.0.0.1, `--engine auto`, the CPUs `cpus` (a
    /// list such as `0-3,8`), and `stamp`.
    ///
    /// Call this from a thread that lives as long as the server is to: the kernel ends the server
    /// when the thread that started it ends (PR_SET_PDEATHSIG(2const)).
    ///
    /// # Errors
    /// [`EmbeddedError`], with the last words of a server that ended instead of listening.
    pub fn start(
        args: &[OsString],
        cpus: Option<&str>,
        stamp: bool,
    ) -> Result<Self, EmbeddedError> {
        let program = env::current_exe().map_err(EmbeddedError::Spawn)?;
        let mut command = Command::new(program);
        let given = Given::of(args, |name| env::var_os(name).is_some());
        let args: Vec<OsString> = [args, &given.complete(cpus, stamp)].concat();
        command.arg(SERVE).args(&args);
        let mut server = Self::launch(command, READY_WITHIN)?;
        let argv = args.iter().map(|arg| arg.to_string_lossy().into_owned());
        server.description.argv = argv.collect();
        Ok(server)
    }

    /// Where to connect to: the first address it listens on, through loopback if that is any.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        reachable(self.listening)
    }

    /// What the server said of itself when it began to listen.
    #[must_use]
    pub fn description(&self) -> &Server {
        &self.description
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    ///
    /// # Errors
    /// What waitpid(2) failed with.
    pub fn try_exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks the server to stop (SIGTERM). One that still drains after [`STOP_WITHIN`] is told to
    /// exit at once by a second signal: nobody is connected to it any more. Returns what went
    /// wrong.
    #[must_use]
    pub fn stop(mut self) -> Option<String> {
        match self.end() {
            Ok(Ended::Drained(status)) if status.success() => None,
            Ok(Ended::Drained(status)) => {
                Some(format!("the embedded server ended with {status}: its last lines are above"))
            }
            Ok(Ended::Hurried) => {
                tell(format!("still draining after {STOP_WITHIN:?}, so told to exit at once"));
                None
            }
            Ok(Ended::Killed) => Some(format!(
                "the embedded server did not stop within {:?} of SIGTERM and was killed",
                2 * STOP_WITHIN
            )),
            Err(error) => Some(format!("the embedded server could not be stopped: {error}")),
        }
    }

    /// Runs `command`, which behaves as the server does on stderr.
    fn launch(mut command: Command, within: Duration) -> Result<Self, EmbeddedError> {
        // A Ctrl-C at the terminal is for the generator, which then stops the server in order.
        command.process_group(0);
        command.env(PARENT_ENV, std::process::id().to_string());
        // Whatever else is filtered out, we wait for this one.
        if let Ok(filter) = env::var("RUST_LOG") {
            command.env("RUST_LOG", format!("{filter},uring_echo::server=info"));
        }
        // Our stdout carries the report and nothing else.
        let stdout = io::stderr().as_fd().try_clone_to_owned().map_err(EmbeddedError::Spawn)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(EmbeddedError::Spawn)?;
        let (sender, receiver) = mpsc::channel();
        let stderr = child.stderr.take().expect("stderr is piped");
        let log =
            thread::Builder::new().name("server-log".into()).spawn(move || follow(stderr, &sender));
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut server =
            Self { child, log: None, listening: nowhere, description: Server::default() };
        server.log = Some(log.map_err(EmbeddedError::Spawn)?);
        (server.listening, server.description) = server.await_ready(&receiver, within)?;
        Ok(server)
    }

    fn await_ready(
        &mut self,
        news: &Receiver<News>,
        within: Duration,
    ) -> Result<(SocketAddr, Server), EmbeddedError> {
        match news.recv_timeout(within) {
            Ok(News::Ready(addr, server)) => Ok((addr, server)),
            Ok(News::Ended(last_words)) => {
                let status = self.child.wait().map_err(EmbeddedError::Spawn)?;
                self.join_log();
                Err(EmbeddedError::Ended { status, last_words })
            }
            Err(_) => Err(EmbeddedError::NotReady { within }),
        }
    }

    fn end(&mut self) -> io::Result<Ended> {
        let ended =
            self.child.try_wait()?.map_or_else(|| self.terminate(), |s| Ok(Ended::Drained(s)));
        self.join_log();
        ended
    }

    /// Not yet waited for, so the id is still that of our child.
    fn terminate(&mut self) -> io::Result<Ended> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        if let Some(status) = wait_until(&mut self.child, Instant::now() + STOP_WITHIN)? {
            return Ok(Ended::Drained(status));
        }
        kill_process(pid, Signal::TERM)?;
        if wait_until(&mut self.child, Instant::now() + STOP_WITHIN)?.is_some() {
            return Ok(Ended::Hurried);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(Ended::Killed)
    }

    /// After the child: its end of the pipe is closed and the last lines are there.
    fn join_log(&mut self) {
        let ended = self.log.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            eprintln!("server: the log could not be followed to its end");
        }
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("server: process {} could not be stopped: {error}", self.child.id());
        }
    }
}

/// How a server ended.
#[derive(Debug)]
enum Ended {
    /// After one signal, or by itself.
    Drained(ExitStatus),
    /// After two.
    Hurried,
    /// It took SIGKILL.
    Killed,
}

/// Why there is no embedded server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The process could not be started or waited for.
    #[error("the embedded server could not be started")]
    Spawn(#[source] io::Error),
    /// It ended before it listened.
    #[error("the embedded server ended before it listened ({status}){}", indented(.last_words))]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// What it had to say.
        last_words: Vec<String>,
    },
    /// It runs but does not listen.
    #[error("the embedded server does not listen after {within:?}")]
    NotReady {
        /// How long it was given.
        within: Duration,
    },
    /// The program that started this server has ended already.
    #[error("the program that started this server is gone")]
    Orphaned,
}

/// Called by the server itself, first: asks the kernel to kill it when its parent is gone, however
/// that ended (PR_SET_PDEATHSIG(2const)).
///
/// # Errors
/// [`EmbeddedError::Orphaned`] if the parent is gone already, else what prctl(2) failed with.
pub fn die_with_parent() -> Result<(), EmbeddedError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| EmbeddedError::Spawn(errno.into()))?;
    // The parent may have died before that call; then somebody else is the parent now.
    let parent = getppid().map(|pid| pid.as_raw_pid().to_string());
    match env::var(PARENT_ENV) {
        Ok(expected) if Some(&expected) != parent.as_ref() => Err(EmbeddedError::Orphaned),
        _ => Ok(()),
    }
}

/// Which of the server's options the user has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    listen: bool,
    engine: bool,
    cpus: bool,
    stamp: bool,
}

impl Given {
    fn of(args: &[OsString], in_env: impl Fn(&str) -> bool) -> Self {
        Self {
            listen: has_option(args, "--listen") || in_env("URING_ECHO_LISTEN"),
            engine: has_option(args, "--engine") || in_env("URING_ECHO_ENGINE"),
            cpus: has_option(args, "--cpus") || in_env("URING_ECHO_CPUS"),
            stamp: has_option(args, "--stamp"),
        }
    }

    /// What is to follow the user's arguments.
    fn complete(self, cpus: Option<&str>, stamp: bool) -> Vec<OsString> {
        let mut rest = vec!["--log", "json"];
        if stamp && !self.stamp {
            rest.push("--stamp");
        }
        if !self.listen {
            rest.extend(["--listen", "127.0.0.1:0"]);
        }
        if !self.engine {
            rest.extend(["--engine", "auto"]);
        }
        if let Some(cpus) = cpus.filter(|_| !self.cpus) {
            rest.extend(["--cpus", cpus]);
        }
        rest.into_iter().map(OsString::from).collect()
    }
}

/// Whether `--name`, or `--name=…`, is among `args`.
fn has_option(args: &[OsString], name: &str) -> bool {
    args.iter().map(OsString::as_os_str).map(OsStr::as_encoded_bytes).any(|arg| {
        arg.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
    })
}

/// A server that listens on any address is reached through loopback.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// What the thread that follows the log tells.
#[derive(Debug)]
enum News {
    Ready(SocketAddr, Server),
    Ended(Vec<String>),
}

/// Reads the server's stderr to its end and passes on what a person should see. What comes before
/// the server listens is held back: if it never does, those words belong to the error.
fn follow(stderr: ChildStderr, news: &Sender<News>) {
    let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| parse_line(&String::from_utf8_lossy(&line)));
    let mut held = Vec::new();
    let mut ready = false;
    for line in lines {
        match line {
            Line::Listening(addr, server) if !ready => {
                ready = true;
                announce(news, News::Ready(addr, server));
                held.drain(..).for_each(tell);
            }
            Line::Tell(text) if ready => tell(text),
            Line::Tell(text) => held.push(text),
            Line::Listening(..) | Line::Routine => {}
        }
    }
    announce(news, News::Ended(held));
}

/// Only the first news is waited for, and not for ever; words that find nobody are told.
fn announce(news: &Sender<News>, what: News) {
    if let Err(SendError(News::Ended(held))) = news.send(what) {
        held.into_iter().for_each(tell);
    }
}

fn tell(text: String) {
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

/// Lets the server find out whether its parent is still the one that started it.
const PARENT_ENV: &str = "LOADGEN_PARENT_PID";

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const LISTENING: &str = r#"{"level":"INFO","fields":{"message":"listening","addr":"0.0.0.0:7",
        "engine":"uring","workers":2}}"#;

    /// A server made of a shell script.
    fn launch(script: &str, within: Duration) -> Result<EmbeddedServer, EmbeddedError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("LISTENING", LISTENING.replace('\n', ""));
        EmbeddedServer::launch(command, within)
    }

    fn args(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn is_there_until_it_is_stopped() {
        let script = r#"echo "$LISTENING" >&2; exec sleep 60"#;
        let mut server = launch(script, SOON).unwrap();
        assert_eq!(server.addr(), "127.0.0.1:7".parse().unwrap());
        let description = server.description();
        assert_eq!((description.engine.as_deref(), description.workers), (Some("uring"), Some(2)));
        assert_eq!(server.try_exited().unwrap(), None);
        assert!(server.pid() > 0);
        assert!(server.stop().unwrap().contains("SIGTERM"), "sleep ends by the signal");
    }

    #[test]
    fn is_gone_once_dropped() {
        let server = launch(r#"echo "$LISTENING" >&2; exec sleep 60"#, SOON).unwrap();
        let pid = Pid::from_child(&server.child);
        drop(server);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn its_last_words_tell_why_it_ended() {
        let error = launch("echo first >&2; echo address in use >&2; exit 3", SOON).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("\n    first\n    address in use"), "{text}");
    }

    #[test]
    fn never_listening_is_noticed() {
        let error = launch("exec sleep 60", Duration::from_millis(1)).unwrap_err();
        assert!(matches!(error, EmbeddedError::NotReady { .. }));
    }

    #[test]
    fn dying_in_the_middle_is_noticed() {
        let mut server = launch(r#"echo "$LISTENING" >&2; exit 4"#, SOON).unwrap();
        let status = wait_until(&mut server.child, Instant::now() + SOON).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(4));
        assert_eq!(server.try_exited().unwrap(), status);
        assert!(server.stop().unwrap().contains("exit status: 4"));
    }

    #[test]
    fn adds_what_the_user_did_not_say() {
        let given = Given::of(&args(&["--stall", "1ms/1s"]), |_| false);
        let expected = "--log json --stamp --listen 127.0.0.1:0 --engine auto --cpus 0,1";
        let expected: Vec<_> = expected.split(' ').collect();
        assert_eq!(given.complete(Some("0,1"), true), args(&expected));
    }

    #[test]
    fn leaves_what_the_user_said() {
        let said = args(&["--listen=[::1]:0", "--engine=uring", "--cpus", "3", "--stamp"]);
        let given = Given::of(&said, |_| false);
        assert_eq!(given.complete(Some("0"), true), args(&["--log", "json"]));
        let in_env = Given::of(&[], |name| name == "URING_ECHO_CPUS");
        assert_eq!(in_env, Given { listen: false, engine: false, cpus: true, stamp: false });
        assert!(!has_option(&args(&["--listener"]), "--listen"));
    }
}
