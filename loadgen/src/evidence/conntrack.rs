//! The connection tracking table: finite, and silent when it is full.

use std::fs;

/// Losses summed over the CPUs of `/proc/net/stat/nf_conntrack`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    pub(crate) drop: u64,
    pub(crate) insert_failed: u64,
    pub(crate) early_drop: u64,
}

impl Losses {
    pub(crate) fn read() -> Option<Self> {
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

/// Entries now; `None` without connection tracking.
pub(crate) fn count() -> Option<u64> {
    read_number("/proc/sys/net/netfilter/nf_conntrack_count")
}

/// Entries that fit; `None` without connection tracking.
pub(crate) fn limit() -> Option<u64> {
    read_number("/proc/sys/net/netfilter/nf_conntrack_max")
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
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
        let losses = Losses::parse(STAT).unwrap();
        assert_eq!(losses, Losses { drop: 0x10f, insert_failed: 11, early_drop: 1 });
    }

    #[test]
    fn other_text_is_refused() {
        assert_eq!(Losses::parse(""), None);
        assert_eq!(Losses::parse("entries found\n1 2\n"), None);
        assert_eq!(Losses::parse("drop insert_failed early_drop\n1 2\n"), None);
    }
}
