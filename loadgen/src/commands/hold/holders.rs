//! What opens and holds the connections: threads with rings, or processes.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::HoldError;
use super::processes::Processes;
use crate::generate::holding::{HoldingPlan, HoldingThreads, Opened};
use crate::plan::holding;
use crate::plan::sources::Sources;
use crate::sys::signals::StopFlag;

/// Whoever has the connections.
#[derive(Debug)]
pub(super) enum Holders {
    /// This process.
    Threads(HoldingThreads),
    /// Others.
    Processes(Processes),
}

impl Holders {
    /// Starts to open connections to `addr`.
    pub(super) fn start(
        shared_out: &holding::Holders,
        connections: u32,
        addr: SocketAddr,
        sources: &[IpNet],
        stop: &StopFlag,
    ) -> Result<Self, HoldError> {
        match shared_out {
            holding::Holders::Processes(each) => {
                Processes::start(addr, connections, *each, sources).map(Self::Processes)
            }
            holding::Holders::Rings(rings, threads) => {
                let plan = HoldingPlan {
                    target: addr,
                    sources: Sources::expand(sources),
                    rings: rings.clone(),
                    threads: *threads as usize,
                };
                Ok(Self::Threads(HoldingThreads::start(&plan, &stop.shared())?))
            }
        }
    }

    /// Waits until what can be opened is open.
    pub(super) fn opened(&mut self, stop: &StopFlag) -> Result<Opened, HoldError> {
        match self {
            Self::Threads(threads) => Ok(threads.opened()?),
            Self::Processes(processes) => processes.opened(stop).map_err(HoldError::Holder),
        }
    }

    /// How many are lost, where that is known before the end.
    pub(super) fn count_lost(&mut self) -> Result<Option<u32>, HoldError> {
        match self {
            Self::Threads(threads) => Ok(Some(threads.count_lost()?)),
            Self::Processes(_) => Ok(None),
        }
    }

    /// Lets go of all; how many were lost, where that is known only now.
    pub(super) fn end(self) -> Result<u32, HoldError> {
        match self {
            Self::Threads(threads) => threads.reset().map(|()| 0).map_err(HoldError::from),
            Self::Processes(processes) => processes.end().map_err(HoldError::Holder),
        }
    }

    /// Processes, and the threads of this one.
    pub(super) fn count(&self) -> (usize, usize) {
        match self {
            Self::Threads(threads) => (1, threads.count()),
            Self::Processes(processes) => (processes.count(), 0),
        }
    }
}
