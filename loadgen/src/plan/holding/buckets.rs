//! How large a hash table of sockets is worth its memory.

/// Buckets of a hash table for `connections` with both ends in it: a power of two, and two for each
/// socket. Not fewer than `least`, those of the table that is shared otherwise; and no more than
/// fit in the part of the memory `left` that connections leave alone.
#[must_use]
pub fn hash_buckets(connections: u32, least: Option<u64>, left: u64) -> u32 {
    let sockets = 2 * u64::from(connections);
    let wanted = (BUCKETS_A_SOCKET * sockets).max(least.unwrap_or(0)).next_power_of_two();
    let afforded = (super::kept(left) / BUCKET_BYTES).max(1);
    let most = MOST.min(1 << afforded.ilog2());
    u32::try_from(wanted.min(most)).expect("at most 2^24")
}

/// Bytes of a table.
#[must_use]
pub fn hash_table_bytes(buckets: u64) -> u64 {
    buckets * BUCKET_BYTES
}

const BUCKETS_A_SOCKET: u64 = 2;
/// A pointer (`struct inet_ehash_bucket`).
const BUCKET_BYTES: u64 = 8;
/// The kernel refuses more (`tcp_child_ehash_entries`).
const MOST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Option<u64> = Some(262_144);
    const LEFT: u64 = 20 << 30;

    #[test]
    fn every_socket_has_two() {
        assert_eq!(hash_buckets(1_000_000, SHARED, LEFT), 4 << 20);
        assert_eq!(hash_buckets(1 << 20, None, LEFT), 4 << 20);
        assert_eq!(hash_buckets((1 << 20) + 1, None, LEFT), 8 << 20);
        assert_eq!(hash_table_bytes(4 << 20), 32 << 20);
    }

    #[test]
    fn a_table_is_not_smaller_than_the_one_that_it_replaces() {
        assert_eq!(hash_buckets(200, SHARED, LEFT), 262_144);
        assert_eq!(hash_buckets(200, None, LEFT), 1024);
    }

    #[test]
    fn a_table_is_within_the_kernels_bound_and_memory() {
        assert_eq!(hash_buckets(u32::MAX, SHARED, 1 << 40), 16 << 20);
        assert_eq!(hash_buckets(1_000_000, SHARED, 64 << 20), 1 << 20, "8 of 64 MiB");
        assert_eq!(hash_buckets(1, None, 0), 1);
    }
}
