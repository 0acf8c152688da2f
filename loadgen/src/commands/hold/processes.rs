//! A share of the connections, held by a process of its own: where rings cannot hold them.
//!
//! It is this program again, told by arguments what to open. It writes a line of JSON when all is
//! open ([`Opened`]), waits for a line or the end of its stdin, writes [`Ended`], and is gone. A
//! signal makes it report what it has opened so far.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, thread};

use ipnet::IpNet;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uring_echo::sys::descriptors;

use super::HoldError;
use crate::commands::exit::ExitStatus;
use crate::echo_client::{EchoClient, EchoError, EchoServer, pattern};
use crate::generate::holding::Opened;
use crate::plan::sources::Sources;
use crate::server::die_with_parent;
use crate::sys::signals::StopFlag;

/// The hidden subcommand under which this program holds a share.
pub const HOLD: &str = "__hold";

/// This program as a holder; `args` as its parent writes them.
///
/// # Errors
/// [`HoldError`]; connections that fail are no error but reported.
pub fn holder(args: impl Iterator<Item = OsString>) -> Result<(), HoldError> {
    die_with_parent()?;
    let share = args.map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let share: Share = serde_json::from_str(&share).map_err(|e| HoldError::Holder(e.into()))?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    descriptors::raise_limit().map_err(HoldError::Holder)?;
    let (clients, opened) = share.open(&stop);
    tell(&opened)?;
    // The end of stdin is as good as a line: then the parent is gone.
    io::stdin().lock().read_line(&mut String::new()).map_err(HoldError::Holder)?;
    let quiet = clients.iter().filter(|client| client.is_open_and_idle()).count();
    let lost = u32::try_from(clients.len() - quiet).unwrap_or(u32::MAX);
    tell(&Ended { lost })?;
    let ended: Result<(), EchoError> = clients.into_iter().try_for_each(EchoClient::reset);
    ended.map_err(|error| HoldError::Holder(io::Error::other(error)))
}

/// All processes that hold connections.
#[derive(Debug)]
pub(super) struct Processes(Vec<Holder>);

impl Processes {
    /// Starts as many as it takes to hold `connections`, of which each holds `each` at most.
    pub(super) fn start(
        addr: SocketAddr,
        connections: u32,
        each: u32,
        sources: &[IpNet],
    ) -> Result<Self, HoldError> {
        let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
        let mut holders = Vec::new();
        let mut first = 0;
        while first < connections {
            let count = each.min(connections - first);
            let share = Share { addr, count, first, sources: sources.clone() };
            holders.push(Holder::start(&share).map_err(HoldError::Holder)?);
            first += count;
        }
        Ok(Self(holders))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until each has opened what it can. Once `stop` is set they stop opening.
    pub(super) fn opened(&mut self, stop: &StopFlag) -> io::Result<Opened> {
        let mut all = Opened::default();
        for holder in &mut self.0 {
            all.add(holder.opened(stop)?);
        }
        Ok(all)
    }

    /// Lets each check its connections and go; returns how many were lost.
    pub(super) fn end(self) -> io::Result<u32> {
        self.0.into_iter().map(Holder::end).sum()
    }
}

/// A process that holds connections.
#[derive(Debug)]
struct Holder {
    child: Child,
    answers: Receiver<io::Result<String>>,
    /// A request to stop found it before it could answer one: it holds nothing.
    gone: bool,
}

impl Holder {
    fn start(share: &Share) -> io::Result<Self> {
        let share = serde_json::to_string(share)?;
        let mut command = Command::new(env::current_exe()?);
        // A Ctrl-C at the terminal is for the parent, which then asks in order.
        command.args([HOLD, &share]).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = follow(child.stdout.take().expect("stdout is piped"))?;
        Ok(Self { child, answers, gone: false })
    }

    fn opened(&mut self, stop: &StopFlag) -> io::Result<Opened> {
        let mut asked = false;
        loop {
            if stop.is_set() && !asked {
                asked = true;
                kill_process(Pid::from_child(&self.child), Signal::TERM)?;
            }
            match self.answers.recv_timeout(STOP_CHECK) {
                Ok(line) => return understood(&line?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if asked => {
                    self.gone = true;
                    return Ok(Opened::default());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(silent()),
            }
        }
    }

    fn end(mut self) -> io::Result<u32> {
        if self.gone {
            return Ok(0);
        }
        let mut stdin = self.child.stdin.take().expect("stdin is piped");
        stdin.write_all(b"end\n")?;
        let Ended { lost } = understood(&self.answers.recv().map_err(|_| silent())??)?;
        let status = self.child.wait()?;
        if status.success() { Ok(lost) } else { Err(io::Error::other(status.to_string())) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Ended already where all went well.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("hold: process {} could not be ended: {error}", self.child.id());
        }
    }
}

/// Reads lines on a thread of their own, so that whoever waits for one can be interrupted.
fn follow(stdout: ChildStdout) -> io::Result<Receiver<io::Result<String>>> {
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(stdout).lines();
    let deliver = move || lines.into_iter().try_for_each(|line| sender.send(line)).is_ok();
    thread::Builder::new().name("holder-answers".into()).spawn(deliver)?;
    Ok(receiver)
}

fn understood<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    serde_json::from_str(line).map_err(|_| io::Error::other(format!("it said {line:?}")))
}

fn silent() -> io::Error {
    io::Error::other("it ended without an answer")
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    lost: u32,
}

/// What one holder is to open: connections `first..first + count`.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    addr: SocketAddr,
    count: u32,
    first: u32,
    /// Networks as text.
    sources: Vec<String>,
}

impl Share {
    fn open(&self, stop: &StopFlag) -> (Vec<EchoClient>, Opened) {
        let server = EchoServer::new(self.addr, Instant::now() + OPEN_WITHIN);
        let networks: Vec<IpNet> = self.sources.iter().filter_map(|net| net.parse().ok()).collect();
        let mut sources = Sources::expand(&networks).starting_at(self.first as usize);
        let mut clients = Vec::with_capacity(self.count as usize);
        let mut opened = Opened::default();
        let bytes = pattern(62, MESSAGE + PATTERNS);
        for number in (self.first..self.first + self.count).take_while(|_| !stop.is_set()) {
            let message = &bytes[number as usize % PATTERNS..][..MESSAGE];
            let echoed = connect(&server, &mut sources).and_then(|mut client| {
                opened.opened += 1;
                client.round_trip(message)?;
                Ok(client)
            });
            match echoed {
                Ok(client) => clients.push(client),
                Err(error) => {
                    opened.first_error.get_or_insert_with(|| error.to_string());
                }
            }
        }
        opened.echoed = u32::try_from(clients.len()).unwrap_or(u32::MAX);
        (clients, opened)
    }
}

fn connect(server: &EchoServer, sources: &mut Sources) -> Result<EchoClient, EchoError> {
    match sources.next_source() {
        None => server.connect(),
        source => server.connect_from(source),
    }
}

fn tell(what: &impl Serialize) -> Result<(), HoldError> {
    let text = serde_json::to_string(what).map_err(|error| HoldError::Holder(error.into()))?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(HoldError::Holder)
}

const OPEN_WITHIN: Duration = Duration::from_secs(300);
const MESSAGE: usize = 64;
/// Successive connections send different bytes, so that an echo on the wrong connection is seen.
const PATTERNS: usize = 4096;
/// How long a signal may go unnoticed.
const STOP_CHECK: Duration = Duration::from_millis(50);
