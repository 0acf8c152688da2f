//! What is sent, and whether that is what came back.

use crate::echo_client::pattern;

/// One block of pseudo-random bytes. Every message is a window of it, and which window follows from
/// the connection and the message: bytes that arrive on another connection, or later than they
/// should, are seen to be wrong.
#[derive(Debug)]
pub struct Payload {
    block: Box<[u8]>,
    size: u32,
}

/// Where a message begins in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u32);

impl Payload {
    /// For messages of `size` bytes; the same seed gives the same bytes.
    #[must_use]
    pub fn new(size: u32, seed: u64) -> Self {
        let block = pattern(seed, size as usize + WINDOWS as usize).into_boxed_slice();
        Self { block, size }
    }

    /// All the bytes, to be staged for sending.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Bytes per message.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The window of message `message` (from 0) on connection `connection`.
    #[must_use]
    pub fn window(&self, connection: u64, message: u32) -> Window {
        // Fibonacci hashing: neighbours in either number land far apart.
        let mixed = connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(message);
        let mixed = mixed.wrapping_mul(0xD1B5_4A32_D192_ED03) >> 32;
        let start = (mixed % u64::from(WINDOWS)) as u32;
        Window(start)
    }

    /// Whether `echo` is what the message of this window holds from its byte `at` on. False where
    /// it goes past the end of the message.
    #[must_use]
    pub fn matches(&self, window: Window, at: u32, echo: &[u8]) -> bool {
        let left = (self.size - at) as usize;
        let from = window.offset() + at as usize;
        echo.len() <= left && self.block[from..from + echo.len()] == *echo
    }
}

impl Window {
    /// Its first byte in [`Payload::block`].
    #[must_use]
    pub fn offset(self) -> usize {
        self.0 as usize
    }
}

/// How many windows there are.
const WINDOWS: u32 = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_of_neighbours_differ() {
        let payload = Payload::new(64, 1);
        let near: Vec<_> = (0..100).map(|c| payload.window(c, 0).0).collect();
        let mut distinct = near.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 95, "{near:?}");
        assert_ne!(payload.window(7, 0), payload.window(7, 1));
    }

    #[test]
    fn nothing_looks_like_a_stamp() {
        assert!(!Payload::new(1 << 16, 3).block().contains(&uring_echo::stamp::MAGIC[0]));
    }

    proptest! {
        #[test]
        fn an_echo_matches_in_any_pieces_and_no_other_does(
            size in 1u32..5000,
            connection: u64,
            message: u32,
            cut: prop::sample::Index,
            flip: prop::sample::Index,
        ) {
            let payload = Payload::new(size, 1);
            let window = payload.window(connection, message);
            let mut echo = payload.block()[window.offset()..][..size as usize].to_vec();
            let cut = cut.index(size as usize);
            let at = u32::try_from(cut).unwrap();
            prop_assert!(payload.matches(window, 0, &echo[..cut]));
            prop_assert!(payload.matches(window, at, &echo[cut..]));
            echo[flip.index(size as usize)] ^= 1;
            prop_assert!(!payload.matches(window, 0, &echo));
            echo.push(0);
            prop_assert!(!payload.matches(window, 0, &echo));
        }
    }
}
