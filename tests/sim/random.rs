//! The only source of randomness: everything a run does follows from its seed or its script.

use std::vec::IntoIter;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): small, fast, and good enough for tests.
#[derive(Debug)]
pub(crate) struct Random {
    script: IntoIter<u8>,
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        Self { script: Vec::new().into_iter(), state }
    }

    /// Draws from what a fuzzer wrote, the highest bits first, so that one byte decides most draws;
    /// once that is used up, from a fixed seed, since a run must be able to end.
    pub(crate) fn scripted(script: Vec<u8>) -> Self {
        Self { script: script.into_iter(), ..Self::new(0) }
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        let bits = self.read(end).unwrap_or_else(|| self.next() >> 32);
        let scaled = (bits * u64::from(end)) >> 32;
        u32::try_from(scaled).expect("below a u32")
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True in `per_mille` of 1000 cases.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// An index into something of length `len`, which is not zero.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).expect("small")) as usize
    }

    /// The next 32 bits of the script, which has only as many of them as `end` needs.
    fn read(&mut self, end: u32) -> Option<u64> {
        let width = if end <= 1 << 8 { 1 } else { 2 };
        let written = self.script.by_ref().take(width);
        let (bits, read) =
            written.fold((0, 0), |(bits, n), byte| (bits << 8 | u64::from(byte), n + 8));
        (read > 0).then(|| bits << (32 - read))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
