//! The listeners of one address as `/proc/PID/net` shows them: for a network namespace that may not
//! be entered, and where sock_diag(7) is denied. A sample takes milliseconds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::diag::Inode;
use super::listener_looks::Looks;
use super::listener_table::{Listener, covering};
use super::passive_opens::{PassiveOpens, counter};
use crate::model::watch::LIMIT_UNKNOWN;
use crate::sys::processes::{ListeningRow, listening_in};

/// Samples the listeners of one address. Their limits are not known, and what they dropped only
/// for the whole namespace: the first of them has it all.
#[derive(Debug)]
pub struct ProcListeners {
    folder: PathBuf,
    server: SocketAddr,
    opens: PassiveOpens,
    found: Vec<Listener>,
}

impl ProcListeners {
    /// Of the namespace that `folder` shows, such as `/proc/4711/net`.
    ///
    /// # Errors
    /// The error of reading its files; `NotFound` where nobody listens at `server`.
    pub fn open(folder: &Path, server: SocketAddr) -> io::Result<Self> {
        let opens = PassiveOpens::of(folder)?;
        let mut all = Self { folder: folder.to_owned(), server, opens, found: Vec::new() };
        all.find()?;
        Ok(all)
    }

    /// The listeners as of the last sample.
    #[must_use]
    pub fn members(&self) -> &[Listener] {
        &self.found
    }

    /// Samples every member.
    ///
    /// # Errors
    /// The error of reading the files.
    pub fn sample(&mut self) -> io::Result<Looks> {
        let now = self.read()?;
        let inodes = |all: &[Listener]| all.iter().map(|one| one.inode.0).collect::<Vec<_>>();
        if inodes(&now) != inodes(&self.found) {
            return Ok(Looks::Changed);
        }
        self.found = now;
        Ok(Looks::Whole)
    }

    /// Finds the members anew.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find(&mut self) -> io::Result<()> {
        self.found = self.read()?;
        if self.found.is_empty() {
            let (server, folder) = (self.server, self.folder.display());
            let text = format!("nobody listens at {server} in the network namespace of {folder}");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(())
    }

    /// As [`PassiveOpens::read`].
    ///
    /// # Errors
    /// As [`PassiveOpens::read`].
    pub fn opened(&mut self) -> io::Result<u64> {
        self.opens.read()
    }

    fn read(&self) -> io::Result<Vec<Listener>> {
        let port = self.server.port();
        let rows = listening_in(&self.folder, port)?;
        let listener = |row: &ListeningRow| Listener {
            addr: SocketAddr::new(row.local, port),
            inode: Inode(row.inode),
            uid: row.uid,
            interface: 0,
            only_v6: false,
            depth: row.depth,
            limit: LIMIT_UNKNOWN,
            drops: 0,
        };
        let all: Vec<Listener> = rows.iter().map(listener).collect();
        let mut found = covering(&all, self.server);
        found.sort_unstable_by_key(|one| one.inode.0);
        if let Some(first) = found.first_mut() {
            first.drops = self.drops()?;
        }
        Ok(found)
    }

    /// What the listeners of the namespace dropped, wrapping around as the counter of one does.
    fn drops(&self) -> io::Result<u32> {
        let text = fs::read_to_string(self.folder.join("netstat"))?;
        let dropped = counter(text.as_bytes(), "TcpExt:", "ListenDrops");
        let low = u64::from(u32::MAX);
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "netstat: no ListenDrops");
        dropped.and_then(|all| u32::try_from(all & low).ok()).ok_or_else(malformed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_queue_of_a_listener_is_read() {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1")] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = SocketAddr::new(connect.parse().unwrap(), port);
            let folder = Path::new("/proc/self/net");
            let mut all = ProcListeners::open(folder, server).unwrap();
            let before = all.opened().unwrap();
            let _waiting = TcpStream::connect(server).unwrap();
            assert_eq!(all.sample().unwrap(), Looks::Whole);
            let [one] = all.members() else { panic!("{all:?}") };
            assert_eq!((one.depth, one.limit), (1, LIMIT_UNKNOWN));
            assert!(all.opened().unwrap() > before);
            drop(listener);
            assert_eq!(all.sample().unwrap(), Looks::Changed);
            assert_eq!(all.find().unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
