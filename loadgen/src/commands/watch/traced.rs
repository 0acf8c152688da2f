//! The arrivals of the watched listeners with their instants, from the kernel's tracepoint.

use std::io;
use std::net::SocketAddr;

use super::follower::{Followed, Follower};
use super::port_filter::PortFilter;
use crate::observe::{Established, EstablishedTrace, TraceError};
use crate::sys::processes::listening_elsewhere;

/// Reads the tracepoint between samples.
pub(super) struct Traced {
    trace: EstablishedTrace,
    filter: PortFilter,
    port: u16,
    /// Arrived after the sample that was read with them.
    early: Vec<Established>,
    /// Of the sample, ascending.
    arrived: Vec<Established>,
    instants: Vec<u64>,
    lost: u64,
    follower: Follower,
    /// All that the tracepoint told, and what the namespace counted when it began.
    told: u64,
    opened: u64,
    seconds: u64,
    untrue: Option<String>,
}

/// Connections that one tick may bring without memory being allocated.
const BATCH: usize = 4096;
/// Between two searches for listeners in other namespaces, which read all of /proc.
const SEARCH_EVERY_SECONDS: u64 = 60;
/// What the two counts may differ by, as they are not read at one instant.
const READ_APART: u64 = 64;

impl Traced {
    /// `opened` is the namespace's count of connections now.
    pub(super) fn open(server: SocketAddr, opened: u64) -> Result<Self, TraceError> {
        Ok(Self {
            trace: EstablishedTrace::open(server.port())?,
            filter: PortFilter::open(server).map_err(TraceError::Sockets)?,
            port: server.port(),
            early: Vec::with_capacity(BATCH),
            arrived: Vec::with_capacity(BATCH),
            instants: Vec::with_capacity(BATCH),
            lost: 0,
            follower: Follower::open().map_err(TraceError::Sockets)?,
            told: 0,
            opened,
            seconds: 0,
            untrue: None,
        })
    }

    /// Reads what was recorded up to `until_ns`, the instant of a sample.
    pub(super) fn read(&mut self, until_ns: u64) {
        let Self { trace, filter, early, arrived, instants, told, .. } = self;
        arrived.clear();
        arrived.append(early);
        self.lost = trace.take(|one| {
            *told += 1;
            if filter.is_ours(one.server) {
                arrived.push(one);
            }
        });
        arrived.sort_unstable_by_key(|one| one.at_ns);
        let later = arrived.partition_point(|one| one.at_ns <= until_ns);
        early.extend(arrived.drain(later..));
        instants.clear();
        instants.extend(arrived.iter().map(|one| one.at_ns));
    }

    /// Those that the last [`read`](Self::read) brought, and how many more were lost.
    pub(super) fn arrivals(&self) -> (&[u64], u64) {
        (&self.instants, self.lost)
    }

    /// Follows each of them by itself: which listener of a group got it is not told. Passes the
    /// waits that ended.
    pub(super) fn follow(&mut self, now_ns: u64, mut waited: impl FnMut(u64)) -> io::Result<()> {
        for one in &self.arrived {
            let Established { at_ns, server, client } = *one;
            let followed = Followed { server, client, since_ns: at_ns, seen_ns: at_ns, mark: 0.0 };
            self.follower.follow(followed);
        }
        self.follower.pass(now_ns, |one, ended_ns| waited(ended_ns.saturating_sub(one.since_ns)))
    }

    /// Called once a second with the namespace's count of connections.
    pub(super) fn second(&mut self, opened: u64) -> io::Result<()> {
        self.filter.look()?;
        if self.untrue.is_none() {
            self.untrue = self.foreign(opened);
        }
        self.seconds += 1;
        Ok(())
    }

    /// The tracepoint does not tell network namespaces apart.
    fn foreign(&self, opened: u64) -> Option<String> {
        let port = self.port;
        if self.told > opened.saturating_sub(self.opened) + READ_APART {
            return Some(format!(
                "port {port} has connections in another network namespace too, from which the \
                 tracepoint does not tell them"
            ));
        }
        if !self.seconds.is_multiple_of(SEARCH_EVERY_SECONDS) {
            return None;
        }
        let pid = listening_elsewhere(port)?;
        Some(format!(
            "process {pid} listens on port {port} in another network namespace, from whose \
             connections the tracepoint does not tell those here"
        ))
    }

    /// Why its arrivals are not those of the watched listeners.
    pub(super) fn untrue(&self) -> Option<&str> {
        self.untrue.as_deref()
    }

    /// Connections that could not be followed.
    pub(super) fn refused(&self) -> u64 {
        self.follower.refused
    }
}
