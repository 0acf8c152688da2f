//! `loadgen torture ADDR`: what breaks echo servers, tried on any of them.
//!
//! A [`Case`] is a value: a name, what it does, and a function over a [`Target`]. The [`suite`]
//! runs one after the other. Only plain blocking sockets are used and every byte that comes back
//! is checked.

mod cases;
mod crowd;
mod cycles;
mod held;
mod resets;
mod stop;
mod streams;
pub mod suite;
mod trickle;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::SystemTime;

use uring_echo::sys::descriptors;

pub use cases::{Case, all};
pub use held::{GUARD, guard};
pub use suite::{CaseError, Options, Outcome, Target};

use self::suite::{UnknownCase, results, select};
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use super::target::{self, TargetError};
use crate::cli::torture::TortureArgs;
use crate::model::result::{Kind, RunResult};
use crate::model::torture::{CaseResult, Torture};
use crate::render::output::{self, OutputError};
use crate::render::{findings, terminal};
use crate::sys::given_process::{GivenProcess, UnusablePid};
use crate::sys::signals::StopFlag;

/// Why the command could not run or tell.
#[derive(Debug, thiserror::Error)]
pub enum TortureError {
    /// A case was asked for that is not there.
    #[error(transparent)]
    Case(#[from] UnknownCase),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] TargetError),
    /// `--pid` names no process that can be stopped.
    #[error("--pid {pid}: {cause}")]
    Pid {
        /// As typed.
        pid: u32,
        /// What is wrong with it.
        cause: UnusablePid,
    },
    /// Nobody is there.
    #[error("nobody answers at {addr}")]
    Nobody {
        /// Where.
        addr: SocketAddr,
        /// What connecting failed with.
        source: io::Error,
    },
    /// The JSON cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Signals cannot be caught, or stdout refused the text.
    #[error("installing signal handlers or writing to stdout")]
    Io(#[from] io::Error),
}

impl TortureError {
    /// Whether what was typed is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Case(_) | Self::Pid { .. } => true,
            Self::Address(error) => error.is_usage(),
            Self::Nobody { .. } | Self::Output(_) | Self::Io(_) => false,
        }
    }
}

/// Runs the suite as typed and prints a row per case as it ends.
///
/// # Errors
/// [`TortureError`].
pub fn execute(args: &TortureArgs) -> Result<ExitStatus, TortureError> {
    let cases = select(&args.case)?;
    let given = args.pid.map(given).transpose()?;
    let addr = target::find(&args.addr, &[], args.target)?;
    let destination = Destination::open(None, args.json.as_deref())?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    // Where the limit cannot be raised it is as it is, and a case that needs more says so.
    drop(descriptors::raise_limit());
    TcpStream::connect(addr).map_err(|source| TortureError::Nobody { addr, source })?;
    let options = Options { quick: args.quick, pid: args.pid };
    let began = SystemTime::now();
    let mut done = Vec::new();
    for result in results(addr, options, cases, &stop) {
        if !destination.json_alone() {
            output::print(&(terminal::case_row(&result) + "\n"))?;
        }
        done.push(result);
    }
    if let (true, Some(given)) = (stop.is_set(), given) {
        let_go(&given);
    }
    deliver(assemble(addr, began, options, done, &stop), destination)
}

fn given(pid: u32) -> Result<GivenProcess, TortureError> {
    GivenProcess::open(pid).map_err(|cause| TortureError::Pid { pid, cause })
}

/// A case that was cut off may have stopped the server's process.
fn let_go(process: &GivenProcess) {
    if let Err(error) = process.resume() {
        let pid = process.pid();
        eprintln!("torture: process {pid} could not be continued: {error}; try kill -CONT {pid}");
    }
}

fn assemble(
    addr: SocketAddr,
    began: SystemTime,
    options: Options,
    done: Vec<CaseResult>,
    stop: &StopFlag,
) -> RunResult {
    let mut result = envelope(Kind::Torture, began);
    result.target.addr = addr.to_string();
    result.interrupted = stop.is_set();
    result.torture = Some(Torture::of(options.quick, done));
    result.verdict = findings::only_interruption(result.interrupted);
    result
}

fn deliver(mut result: RunResult, destination: Destination) -> Result<ExitStatus, TortureError> {
    if !destination.json_alone() {
        output::print(&terminal::torture_counts(&result))?;
    }
    destination.finish(&mut result)?;
    let failed = result.torture.as_ref().is_some_and(|torture| torture.failed > 0);
    let tried = result.torture.as_ref().is_some_and(|t| t.passed + t.failed > 0);
    Ok(if failed || (!tried && !result.interrupted) {
        ExitStatus::Failed
    } else {
        ExitStatus::of(&result)
    })
}
