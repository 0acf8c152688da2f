//! The server's process and its sockets, read from proc(5).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fs, io};

use super::addresses::is_local;
use uring_echo::sys::procfs::kib;

/// A process that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerProcess {
    /// Its process id.
    pub pid: u32,
}

impl ServerProcess {
    /// The process that listens on `addr`, found by its socket's inode; or `given`, if there is
    /// one. `None` if it is not on this machine or its descriptors are not readable.
    ///
    /// # Errors
    /// The error of reading the socket table or the list of processes.
    pub fn find(addr: SocketAddr, given: Option<u32>) -> io::Result<Option<Self>> {
        Ok(Self::holders(addr, given)?.first().copied())
    }

    /// As [`find`](Self::find), but every process that has a descriptor of a listening socket.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn holders(addr: SocketAddr, given: Option<u32>) -> io::Result<Vec<Self>> {
        if let Some(pid) = given {
            return Ok(vec![Self { pid }]);
        }
        let listening = sockets(addr.port())?.into_iter().filter(|row| row.state == LISTEN);
        let matching = listening.filter_map(|row| Some((row.serves(addr.ip())?, row.inode)));
        let matching: Vec<(u8, u64)> = matching.collect();
        // The kernel gives a connection to the most specific of them.
        let best = matching.iter().map(|(specificity, _)| *specificity).max();
        let best = matching.iter().filter(|(specificity, _)| Some(*specificity) == best);
        let listeners: Vec<String> = best.map(|(_, inode)| format!("socket:[{inode}]")).collect();
        if listeners.is_empty() || !is_local(addr.ip()) {
            return Ok(Vec::new());
        }
        let processes = fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(pids.map(|pid| Self { pid }).filter(|process| process.holds(&listeners)).collect())
    }

    /// Its name, at most 15 characters (proc_pid_comm(5)); `None` once it has ended.
    pub fn name(&self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).ok()?;
        Some(name.trim_end().to_owned())
    }

    /// The number of its open descriptors, without the direct descriptors of an io_uring.
    ///
    /// # Errors
    /// The error of reading /proc/PID/fd.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// Its resident memory in KiB, exactly (`Rss` of smaps_rollup, Linux 4.14; the counters of
    /// /proc/PID/status lag behind by some pages for each CPU).
    ///
    /// # Errors
    /// The error of reading the file; `InvalidData` if it has no such line.
    pub fn rss_kib(&self) -> io::Result<u64> {
        kib(&format!("/proc/{}/smaps_rollup", self.pid), "Rss")
    }

    /// Whether a descriptor of the process is one of `links`. A process that has ended has none.
    fn holds(&self, links: &[String]) -> bool {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid));
        descriptors.is_ok_and(|entries| {
            let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            targets
                .into_iter()
                .any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        })
    }
}

/// Who holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// Its name (`comm` of proc_pid_comm(5)).
    pub name: String,
}

/// The processes that hold each of some sockets, by inode.
pub type Owners = BTreeMap<u32, Vec<Owner>>;

/// The processes with a descriptor of each socket of `inodes`, as far as their descriptors may be
/// read: those of other users may not.
///
/// # Errors
/// The error of reading the list of processes.
pub fn socket_owners(inodes: &[u32]) -> io::Result<Owners> {
    let mut owners = Owners::new();
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut held: Vec<u32> = sockets_of(pid);
        held.retain(|inode| inodes.contains(inode));
        held.sort_unstable();
        held.dedup();
        for inode in held {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let owner = Owner { pid, name: comm.trim_end().to_owned() };
            owners.entry(inode).or_default().push(owner);
        }
    }
    Ok(owners)
}

/// The sockets that a process holds; none where it has ended or may not be looked at.
fn sockets_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let inner = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse();
        inner.ok()
    };
    links.filter_map(inode).collect()
}

/// The number of connections with local port `port` in this network namespace, without those in
/// TIME_WAIT, which belong to no process.
///
/// # Errors
/// The error of reading the socket table.
pub fn open_connections(port: u16) -> io::Result<usize> {
    let open = |socket: &&TableRow| socket.state != LISTEN && socket.state != TIME_WAIT;
    Ok(sockets(port)?.iter().filter(open).count())
}

/// A row of /proc/net/tcp.
#[derive(Debug, PartialEq, Eq)]
struct TableRow {
    local: IpAddr,
    state: u8,
    receive_queue: u32,
    uid: u32,
    inode: u64,
}

/// A listening socket of a socket table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListeningRow {
    /// The address that it is bound to.
    pub local: IpAddr,
    /// Its socket.
    pub inode: u32,
    /// The user that it belongs to.
    pub uid: u32,
    /// Connections that wait to be accepted.
    pub depth: u32,
}

/// The sockets that listen on `port`, of the network namespace that `folder` shows, such as
/// `/proc/4711/net`.
///
/// # Errors
/// The error of reading the socket table.
pub fn listening_in(folder: &Path, port: u16) -> io::Result<Vec<ListeningRow>> {
    let rows = sockets_in(folder, port)?;
    let listening = rows.into_iter().filter(|row| row.state == LISTEN);
    let row = |row: TableRow| {
        let (local, uid, depth) = (row.local, row.uid, row.receive_queue);
        Some(ListeningRow { local, inode: u32::try_from(row.inode).ok()?, uid, depth })
    };
    Ok(listening.filter_map(row).collect())
}

impl TableRow {
    /// How specifically a listener of this row serves connections to `addr`; `None` if it does not.
    /// Whether a wildcard of IPv6 takes IPv4 as well the table does not tell: it counts as if.
    fn serves(&self, addr: IpAddr) -> Option<u8> {
        let addr = addr.to_canonical();
        match self.local {
            local if local.to_canonical() == addr || addr.is_unspecified() => Some(2),
            local if local.is_unspecified() && local.is_ipv4() == addr.is_ipv4() => Some(1),
            local if local.is_unspecified() && addr.is_ipv4() => Some(0),
            _ => None,
        }
    }
}

/// A process that is in another network namespace than the calling thread, in which somebody
/// listens on `port`; of those namespaces that may be looked into.
pub fn listening_elsewhere(port: u16) -> Option<u32> {
    let mut known = vec![fs::read_link("/proc/thread-self/ns/net").ok()?];
    for entry in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let network = fs::read_link(entry.path().join("ns/net"));
        let (Some(pid), Ok(network)) = (pid, network) else { continue };
        if known.contains(&network) {
            continue;
        }
        known.push(network);
        let listening = listening_in(&entry.path().join("net"), port).unwrap_or_default();
        if !listening.is_empty() {
            return Some(pid);
        }
    }
    None
}

/// The sockets with this local port, of both families.
fn sockets(port: u16) -> io::Result<Vec<TableRow>> {
    sockets_in(Path::new("/proc/net"), port)
}

fn sockets_in(folder: &Path, port: u16) -> io::Result<Vec<TableRow>> {
    let mut rows = table(&folder.join("tcp"), port)?;
    match table(&folder.join("tcp6"), port) {
        Ok(more) => rows.extend(more),
        // The kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(rows)
}

fn table(path: &Path, port: u16) -> io::Result<Vec<TableRow>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().skip(1).filter_map(|line| row(line, port)).collect())
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn row(line: &str, port: u16) -> Option<TableRow> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let (address, local_port) = local.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let receive_queue = u32::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
    let uid = fields.nth(2)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(TableRow { local: address_of(address)?, state, receive_queue, uid, inode })
}

/// An address as the table has it: 32-bit words in hexadecimal, each in the machine's byte order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    let bytes = |at: usize| word(at).map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(bytes(0)?).into()),
        32 => {
            let words = [bytes(0)?, bytes(8)?, bytes(16)?, bytes(24)?];
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into())
        }
        _ => None,
    }
}

// include/net/tcp_states.h
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn rows_of_the_socket_table_are_parsed() {
        let line = "   0: 0100007F:1E61 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    0        0 4711 1 0000000000000000 100 0 0 10 0";
        let local = Ipv4Addr::LOCALHOST.into();
        assert_eq!(
            row(line, 7777),
            Some(TableRow { local, state: LISTEN, receive_queue: 0, uid: 0, inode: 4711 })
        );
        let mapped = "0000000000000000FFFF00000100007F";
        assert_eq!(address_of(mapped).map(|addr| addr.to_canonical()), Some(local));
        assert_eq!(row(line, 7778), None);
        assert_eq!(row("sl local_address", 1), None);
    }

    #[test]
    fn a_listener_is_found_and_its_connections_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let found = ServerProcess::find(addr, None).unwrap().unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(found.descriptors().unwrap() > 3 && found.rss_kib().unwrap() > 100);
        let _client = TcpStream::connect(addr).unwrap();
        assert_eq!(open_connections(addr.port()).unwrap(), 1);
    }

    #[test]
    fn of_several_listeners_on_a_port_the_most_specific_serves_an_address() {
        let row = |local: &str| TableRow {
            local: local.parse().unwrap(),
            state: LISTEN,
            receive_queue: 0,
            uid: 0,
            inode: 1,
        };
        let here = IpAddr::from([127, 0, 0, 1]);
        let serves =
            ["127.0.0.1", "0.0.0.0", "::", "127.0.0.2", "::1"].map(|l| row(l).serves(here));
        assert_eq!(serves, [Some(2), Some(1), Some(0), None, None]);
    }

    #[test]
    fn the_owner_of_a_socket_is_found() {
        use std::os::linux::fs::MetadataExt;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let inode = fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().st_ino();
        let inode = u32::try_from(inode).unwrap();
        let owners = socket_owners(&[inode]).unwrap();
        assert!(owners[&inode].iter().any(|owner| owner.pid == std::process::id()));
        assert!(owners[&inode].iter().all(|owner| !owner.name.is_empty()));
    }

    #[test]
    fn a_listener_on_another_machine_is_not_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        assert_eq!(ServerProcess::find(remote, None).unwrap(), None);
        assert_eq!(kib("/proc/meminfo", "None").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
