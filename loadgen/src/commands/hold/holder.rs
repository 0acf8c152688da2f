//! A share of the connections, held by a process of its own.
//!
//! It is this program again, told by arguments what to open. It writes a line of JSON when all is
//! open ([`Opened`]), waits for a line or the end of its stdin, writes [`Ended`], and is gone.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{HoldError, target};
use crate::commands::torture::{CaseError, Peer, Target};
use crate::echo_client::pattern;
use crate::plan::sources::Sources;
use crate::server::die_with_parent;

/// The hidden subcommand under which this program holds a share.
pub const HOLD: &str = "__hold";

/// This program as a holder; `args` as [`start`] writes them.
///
/// # Errors
/// [`HoldError`]; connections that fail are no error but reported.
pub fn holder(args: impl Iterator<Item = OsString>) -> Result<(), HoldError> {
    die_with_parent()?;
    let share = args.map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let share: Share = serde_json::from_str(&share).map_err(|e| HoldError::Holder(e.into()))?;
    raise_descriptors()?;
    let (peers, opened) = share.open();
    tell(&opened)?;
    // The end of stdin is as good as a word: then the parent is gone.
    io::stdin().lock().read_line(&mut String::new()).map_err(HoldError::Holder)?;
    let quiet = peers.iter().filter(|peer| peer.is_quiet()).count();
    let lost = u32::try_from(peers.len() - quiet).unwrap_or(u32::MAX);
    tell(&Ended { lost })?;
    let ended: Result<(), CaseError> = peers.into_iter().try_for_each(Peer::reset);
    ended.map_err(|trouble| HoldError::Holder(io::Error::other(trouble.to_string())))
}

/// Starts as many holders as it takes to hold `connections`.
pub(super) fn start(
    addr: SocketAddr,
    connections: u32,
    sources: &[IpNet],
) -> Result<Vec<Holder>, HoldError> {
    let each = descriptors_each()?;
    let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
    let mut holders = Vec::new();
    let mut first = 0;
    while first < connections {
        let count = each.min(connections - first);
        let share = Share { addr, count, first, sources: sources.clone() };
        holders.push(Holder::start(&share).map_err(HoldError::Holder)?);
        first += count;
    }
    Ok(holders)
}

/// A process that holds connections.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    fn start(share: &Share) -> io::Result<Self> {
        let share = serde_json::to_string(share)?;
        let mut command = Command::new(env::current_exe()?);
        command.args([HOLD, &share]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, answers })
    }

    /// Waits until it has opened what it can.
    pub(super) fn opened(&mut self) -> io::Result<Opened> {
        self.answer()
    }

    /// Lets it look at every connection and go; returns how many were lost.
    pub(super) fn end(mut self) -> io::Result<u32> {
        let mut stdin = self.child.stdin.take().expect("stdin is piped");
        stdin.write_all(b"end\n")?;
        let Ended { lost } = self.answer()?;
        let status = self.child.wait()?;
        if status.success() { Ok(lost) } else { Err(io::Error::other(status.to_string())) }
    }

    fn answer<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| io::Error::other(format!("it said {line:?}")))
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

/// What came of opening a share.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) opened: u32,
    pub(super) echoed: u32,
    pub(super) trouble: Option<String>,
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
    /// Networks in words.
    sources: Vec<String>,
}

impl Share {
    fn open(&self) -> (Vec<Peer>, Opened) {
        let target = target(self.addr, OPEN_WITHIN);
        let networks: Vec<IpNet> = self.sources.iter().filter_map(|net| net.parse().ok()).collect();
        let mut sources = Sources::expand(&networks).starting_at(self.first as usize);
        let mut peers = Vec::with_capacity(self.count as usize);
        let mut opened = Opened { opened: 0, echoed: 0, trouble: None };
        let bytes = pattern(62, MESSAGE + PATTERNS);
        for number in self.first..self.first + self.count {
            let message = &bytes[number as usize % PATTERNS..][..MESSAGE];
            let echoed = connect(&target, &mut sources).and_then(|mut peer| {
                opened.opened += 1;
                peer.round_trip(message)?;
                Ok(peer)
            });
            match echoed {
                Ok(peer) => peers.push(peer),
                Err(trouble) => {
                    opened.trouble.get_or_insert_with(|| trouble.to_string());
                }
            }
        }
        opened.echoed = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        (peers, opened)
    }
}

fn connect(target: &Target, sources: &mut Sources) -> Result<Peer, CaseError> {
    match sources.next_source() {
        None => target.connect(),
        source => target.connect_from(source),
    }
}

fn descriptors_each() -> Result<u32, HoldError> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let each = u32::try_from(limit.saturating_sub(RESERVE)).unwrap_or(u32::MAX);
    if each == 0 { Err(HoldError::Descriptors(limit)) } else { Ok(each) }
}

fn raise_descriptors() -> Result<(), HoldError> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, raised).map_err(|errno| HoldError::Holder(errno.into()))
}

fn tell(what: &impl Serialize) -> Result<(), HoldError> {
    let text = serde_json::to_string(what).map_err(|error| HoldError::Holder(error.into()))?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(HoldError::Holder)
}

const OPEN_WITHIN: Duration = Duration::from_secs(300);
const MESSAGE: usize = 64;
/// Neighbours send different bytes, so that an echo on the wrong connection is seen.
const PATTERNS: usize = 4096;
/// Descriptors of a process for everything else.
const RESERVE: u64 = 200;
