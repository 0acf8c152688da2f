//! `loadgen hold`: idle connections, each echoed once, and what one of them weighs.
//!
//! A process may have fewer descriptors than the server holds connections, so this program starts
//! itself several times ([`HOLD`]) and gives each a share.

mod holder;
mod memory_usage;
mod probe;
mod report;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::HoldArgs;
use crate::commands::torture::{CaseError, Options, Target};
use crate::plan::config::{ConfigError, lookup};
use crate::plan::sources::{Sources, UnusableSource};
use crate::server::{EmbeddedError, EmbeddedServer};
use crate::sys::processes::{ServerProcess, open_connections};

use holder::Holder;
pub use holder::{HOLD, holder};
use memory_usage::MemoryUsage;
use probe::Probes;

/// Why connections could not be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] ConfigError),
    /// A source address is not this machine's.
    #[error(transparent)]
    Source(#[from] UnusableSource),
    /// There is no embedded server.
    #[error(transparent)]
    Server(#[from] EmbeddedError),
    /// The server does not echo even before anything is held.
    #[error("warming up: {0}")]
    WarmUp(CaseError),
    /// A process that holds could not be started or talked to.
    #[error("a process that holds connections: {0}")]
    Holder(io::Error),
    /// Memory could not be read.
    #[error("reading memory use: {0}")]
    MemoryUsage(io::Error),
    /// This process has too few descriptors to do anything.
    #[error("RLIMIT_NOFILE is only {0}")]
    Descriptors(u64),
    /// The result could not be written.
    #[error("writing the result: {0}")]
    Write(io::Error),
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Held {
    addr: SocketAddr,
    server_pid: Option<u32>,
    wanted: u32,
    processes: usize,
    opened: u32,
    echoed: u32,
    /// Of those echoed, no longer open, or with something to be read, at the end.
    lost: u32,
    /// What went wrong first, in words.
    trouble: Option<String>,
    opening_s: f64,
    held_s: f64,
    /// By the kernel's socket table, once all were open; the server's side.
    seen_by_kernel: Option<usize>,
    before: MemoryUsage,
    after: MemoryUsage,
    probes: Option<Probes>,
}

/// Holds connections as typed and prints what came of it. Returns whether all were echoed and none
/// was lost.
///
/// # Errors
/// [`HoldError`].
pub fn execute(args: &HoldArgs) -> Result<bool, HoldError> {
    let given = args.addr.as_deref().map(|addr| lookup(addr, &args.source)).transpose()?;
    Sources::expand(&args.source).check()?;
    let server_args: Vec<_> = args.server_args.iter().map(Into::into).collect();
    let embedded = match given {
        Some(_) => None,
        None => Some(EmbeddedServer::start(&server_args, None, false)?),
    };
    let addr = embedded.as_ref().map(EmbeddedServer::addr).or(given).expect("one of the two");
    let pid = embedded.as_ref().map(EmbeddedServer::pid);
    let server = ServerProcess::find(addr, pid).map_err(HoldError::MemoryUsage)?;
    let held = hold(args, addr, server.as_ref())?;
    if let Some(server) = embedded {
        server.stop().map_err(EmbeddedError::Spawn)?;
    }
    report::write(&held, args.json.as_deref()).map_err(HoldError::Write)?;
    Ok(held.echoed == held.wanted && held.lost == 0)
}

fn hold(
    args: &HoldArgs,
    addr: SocketAddr,
    server: Option<&ServerProcess>,
) -> Result<Held, HoldError> {
    warm_up(addr).map_err(HoldError::WarmUp)?;
    let before = MemoryUsage::take(server).map_err(HoldError::MemoryUsage)?;
    let start = Instant::now();
    let mut holders = holder::start(addr, args.connections, &args.source)?;
    let (mut opened, mut echoed, mut trouble) = (0, 0, None);
    for holder in &mut holders {
        let share = holder.opened().map_err(HoldError::Holder)?;
        opened += share.opened;
        echoed += share.echoed;
        trouble = trouble.or(share.trouble);
    }
    let opening = start.elapsed();
    let seen = server.map(|_| open_connections(addr.port())).transpose();
    let seen_by_kernel = seen.map_err(HoldError::MemoryUsage)?;
    let after = MemoryUsage::take(server).map_err(HoldError::MemoryUsage)?;
    let probes = probe::probe(addr, args.probe_rate, args.duration);
    let processes = holders.len();
    let lost = holders.into_iter().map(Holder::end).sum::<io::Result<u32>>();
    Ok(Held {
        addr,
        server_pid: server.map(|server| server.pid),
        wanted: args.connections,
        processes,
        opened,
        echoed,
        lost: lost.map_err(HoldError::Holder)?,
        trouble,
        opening_s: opening.as_secs_f64(),
        held_s: args.duration.as_secs_f64(),
        seen_by_kernel,
        before,
        after,
        probes,
    })
}

/// Few connections with much to echo: the server touches its pools, which are the same however many
/// connections there are, and hardly any of what it keeps per connection.
fn warm_up(addr: SocketAddr) -> Result<(), CaseError> {
    let target = target(addr, WARM_UP_WITHIN);
    let bytes = crate::echo_client::pattern(61, WARM_UP_BYTES);
    for _ in 0..WARM_UP_CONNECTIONS {
        let mut peer = target.connect()?;
        peer.stream_through(&bytes)?;
        peer.expect_end()?;
    }
    // The server hears of the last end a moment later.
    target.pause(Duration::from_millis(200));
    Ok(())
}

fn target(addr: SocketAddr, within: Duration) -> Target {
    Target::new(addr, Options::default(), Instant::now() + within)
}

const WARM_UP_CONNECTIONS: usize = 96;
/// In each: together a multiple of the pools of a server with several workers.
const WARM_UP_BYTES: usize = 8 << 20;
const WARM_UP_WITHIN: Duration = Duration::from_secs(60);
