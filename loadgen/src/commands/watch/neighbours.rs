//! Whether other listeners of the namespace take connections too: then its count of connections
//! says nothing about one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use crate::observe::{DestroyedSockets, Listener, ListenerTable, covering};

/// Looks at the queues of the others once a second, and for a second of each minute at the ports on
/// which connections end: a server that accepts at once is never seen with a queue.
pub(super) struct Neighbours {
    table: ListenerTable,
    server: SocketAddr,
    ports: BTreeSet<u16>,
    depths: BTreeMap<u32, u32>,
    moved: bool,
    window: Option<DestroyedSockets>,
    seconds: u64,
    ours: u64,
    others: u64,
}

/// A share of foreign connections up to this leaves the counts usable.
const SHARE_MAX: f64 = 0.02;
const WINDOW_EVERY: u64 = 60;

impl Neighbours {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        let mut neighbours = Self {
            table: ListenerTable::open()?,
            server,
            ports: BTreeSet::new(),
            depths: BTreeMap::new(),
            moved: false,
            window: None,
            seconds: 0,
            ours: 0,
            others: 0,
        };
        neighbours.second()?;
        Ok(neighbours)
    }

    /// Called once a second.
    pub(super) fn second(&mut self) -> io::Result<()> {
        let all = self.table.all()?;
        let ours = covering(&all, self.server);
        let others = all.iter().filter(|one| !ours.contains(one));
        self.ports.clear();
        for Listener { addr, inode, depth, .. } in others {
            self.ports.insert(addr.port());
            let before = self.depths.insert(inode.0, *depth);
            self.moved |= before.is_some_and(|before| before != *depth);
        }
        self.window = match self.seconds % WINDOW_EVERY {
            0 if !self.ports.is_empty() => Some(DestroyedSockets::open()?),
            _ => None,
        };
        self.seconds += 1;
        Ok(())
    }

    /// Takes what ended since the last call, within a window.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        let Some(window) = &mut self.window else { return Ok(()) };
        let (own, ports) = (self.server.port(), &self.ports);
        let (ours, others) = (&mut self.ours, &mut self.others);
        let taken = window.ports(|port| match port {
            port if port == own => *ours += 1,
            port if ports.contains(&port) => *others += 1,
            _ => {}
        });
        match taken {
            // More ended than the buffer holds: what was seen is a sample.
            Err(error) if error.raw_os_error() == Some(NO_BUFFERS) => Ok(()),
            other => other,
        }
    }

    /// Share of the connections that ended at other listeners; `None` where none ended.
    pub(super) fn share(&self) -> Option<f64> {
        let all = self.ours + self.others;
        (all > 0).then(|| self.others as f64 / all as f64)
    }

    /// What shows that other listeners are busy.
    pub(super) fn busy(&self) -> Option<String> {
        if self.moved {
            return Some(
                "another listener of this network namespace has a queue that moves".into(),
            );
        }
        let share = self.share().filter(|share| *share > SHARE_MAX)?;
        Some(format!(
            "{:.0} % of the connections that ended in this network namespace were other listeners'",
            share * 100.0
        ))
    }
}

const NO_BUFFERS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();
