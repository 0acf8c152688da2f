//! The local ports that the kernel assigns to clients (ip(7)).

use uring_echo::sys::procfs::sysctl;

/// First and last local port (`ip_local_port_range`).
pub fn local_range() -> Option<(u16, u16)> {
    parse_range(&sysctl("net/ipv4/ip_local_port_range")?)
}

/// The number of ports of `range` that are not reserved (`ip_local_reserved_ports`).
pub fn usable(range: (u16, u16)) -> u64 {
    without_reserved(range, &sysctl("net/ipv4/ip_local_reserved_ports").unwrap_or_default())
}

/// Two ports separated by white space.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_whitespace().map(str::parse);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (low <= high).then_some((low, high))
}

/// The number of ports in a range without the reserved ones, a list such as `8080,9000-9010`.
fn without_reserved((low, high): (u16, u16), reserved: &str) -> u64 {
    let inside = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let (first, last) = (first.max(low), last.min(high));
        (first <= last).then(|| u64::from(last - first) + 1)
    };
    let taken: u64 = reserved.split(',').filter_map(inside).sum();
    (u64::from(high - low) + 1).saturating_sub(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_ascending_ports() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(parse_range("9 8"), None);
        assert_eq!(parse_range("9"), None);
    }

    #[test]
    fn reserved_ports_do_not_count() {
        let without = without_reserved;
        assert_eq!(without((32_768, 60_999), "\n"), 28_232);
        assert_eq!(without((100, 199), "8080,150-160,190-300,99-100\n"), 100 - 11 - 10 - 1);
        assert_eq!(without((7, 7), "7"), 0);
    }
}
