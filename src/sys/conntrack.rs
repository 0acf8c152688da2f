//! The connection tracking table of this network namespace: finite, and when it is full the kernel
//! drops packets of new connections silently.

use std::fs;
use std::time::Duration;

use super::procfs::sysctl_number;

/// How full the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Entries now; 0 means that nothing is tracked in this namespace.
    pub count: u64,
    /// Entries that fit (`nf_conntrack_max`).
    pub limit: u64,
}

/// The present usage; `None` without connection tracking.
#[must_use]
pub fn usage() -> Option<Usage> {
    Some(Usage { count: setting("count")?, limit: setting("max")? })
}

/// How long an entry is kept in the TCP state `close` (after a reset) or `time_wait` (after an
/// orderly end); `None` without connection tracking.
#[must_use]
pub fn tcp_timeout(state: &str) -> Option<Duration> {
    setting(&format!("tcp_timeout_{state}")).map(Duration::from_secs)
}

fn setting(name: &str) -> Option<u64> {
    sysctl_number(&format!("net/netfilter/nf_conntrack_{name}"))
}

/// What was lost since the table was made, over all CPUs (`/proc/net/stat/nf_conntrack`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets dropped because no entry could be made.
    pub drop: u64,
    /// Entries that could not be inserted.
    pub insert_failed: u64,
    /// Entries thrown out to make room.
    pub early_drop: u64,
}

impl Losses {
    /// The present counters; `None` without connection tracking.
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/net/stat/nf_conntrack").ok()?)
    }

    /// A line of names, then a line of hexadecimal values per CPU.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next()?.split_whitespace().collect();
        let column = |name| names.iter().position(|&n| n == name);
        let (drop, failed, early) =
            (column("drop")?, column("insert_failed")?, column("early_drop")?);
        let mut sum = Self::default();
        for line in lines {
            let values: Vec<&str> = line.split_whitespace().collect();
            let value = |at: usize| u64::from_str_radix(values.get(at)?, 16).ok();
            sum.drop += value(drop)?;
            sum.insert_failed += value(failed)?;
            sum.early_drop += value(early)?;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
entries  clashres found new invalid ignore insert insert_failed drop early_drop icmp_error
0000001b  00000000 00000000 00000000 00000002 00000000 00000000 0000000a 00000010 00000001 0
0000001b  00000000 00000000 00000000 00000000 00000000 00000000 00000001 000000ff 00000000 0
";

    #[test]
    fn cpus_are_added_up_in_hexadecimal() {
        let losses = Losses::parse(STAT).expect("two CPUs");
        assert_eq!(losses, Losses { drop: 0x10f, insert_failed: 11, early_drop: 1 });
    }

    #[test]
    fn other_text_is_refused() {
        assert_eq!(Losses::parse(""), None);
        assert_eq!(Losses::parse("entries found\n1 2\n"), None);
        assert_eq!(Losses::parse("drop insert_failed early_drop\n1 2\n"), None);
    }
}
