//! How many connections this network namespace took: `PassiveOpens` of `/proc/net/snmp`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reads the counter of one network namespace, again and again without allocation.
#[derive(Debug)]
pub struct PassiveOpens {
    file: File,
    text: Vec<u8>,
}

/// The file has some 2 KiB.
const TEXT_MAX: usize = 16 * 1024;

impl PassiveOpens {
    /// Opens the counters of the network namespace of the calling thread.
    ///
    /// # Errors
    /// The error of open(2).
    pub fn open() -> io::Result<Self> {
        Self::of(Path::new("/proc/thread-self/net"))
    }

    /// Opens the counters of the network namespace that `folder` shows, such as `/proc/4711/net`.
    ///
    /// # Errors
    /// The error of open(2).
    pub fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(folder.join("snmp"))?, text: vec![0; TEXT_MAX] })
    }

    /// Connections that listeners took since the namespace was made, counted when the handshake
    /// ends and before the connection enters the accept queue.
    ///
    /// # Errors
    /// The error of read(2); `InvalidData` where there is no such counter.
    pub fn read(&mut self) -> io::Result<u64> {
        let len = self.file.read_at(&mut self.text, 0)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "snmp: no PassiveOpens");
        counter(&self.text[..len], "Tcp:", "PassiveOpens").ok_or_else(malformed)
    }
}

/// Of the group `prefix`, which has a line of names, then one of values.
pub(super) fn counter(text: &[u8], prefix: &str, name: &str) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut columns = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    columns.find(|(found, _)| *found == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_counter_is_found_by_its_name() {
        let text = b"Ip: A\nIp: 9\nTcp: RtoMin ActiveOpens PassiveOpens X\nTcp: -1 2 77 4\n";
        assert_eq!(counter(text, "Tcp:", "PassiveOpens"), Some(77));
        assert_eq!(counter(b"Tcp: PassiveOpens\n", "Tcp:", "PassiveOpens"), None);
        assert_eq!(counter(b"Tcp: A\nTcp: 1\n", "Tcp:", "PassiveOpens"), None);
    }

    #[test]
    fn connections_are_counted_before_they_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut opens = PassiveOpens::open().unwrap();
        let before = opens.read().unwrap();
        let _waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(opens.read().unwrap() > before);
    }
}
