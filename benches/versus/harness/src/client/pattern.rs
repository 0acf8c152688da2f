//! The bytes that are sent, so that every byte that comes back can be told right or wrong.
//!
//! A connection sends a section of one pseudo-random sequence that repeats only after a prime
//! number of bytes: what is lost, doubled, reordered or another connection's does not match.

const PERIOD: usize = 65_521;
/// Most bytes that can be had in one piece.
pub(super) const PIECE: usize = 256 << 10;

pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut period: Vec<u8> = Vec::with_capacity(PERIOD);
        period.resize_with(PERIOD, || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        Self(period.iter().copied().cycle().take(PERIOD + PIECE).collect())
    }

    /// `length` bytes (at most [`PIECE`]) at `offset` of the stream of connection `seed`.
    pub(super) fn at(&self, seed: usize, offset: u64, length: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize + seed * 257;
        &self.0[start % PERIOD..][..length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_one_stream() {
        let pattern = Pattern::new();
        let whole = pattern.at(7, 1_000_000, 100);
        assert_eq!(&whole[40..], pattern.at(7, 1_000_040, 60));
    }

    #[test]
    fn connections_send_different_bytes() {
        let pattern = Pattern::new();
        assert_ne!(pattern.at(1, 0, 64), pattern.at(2, 0, 64));
        assert_ne!(pattern.at(1, 0, 64), pattern.at(1, 64, 64));
    }

    #[test]
    fn the_longest_piece_is_there_at_every_offset() {
        let pattern = Pattern::new();
        assert_eq!(pattern.at(0, PERIOD as u64 - 1, PIECE).len(), PIECE);
    }
}
