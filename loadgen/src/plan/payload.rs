//! The bytes of the messages, and the check that the same bytes were echoed.

use crate::echo_client::pattern;

/// One block of pseudo-random bytes. Every message is a window of it, chosen by the numbers of the
/// connection and the message, so that bytes echoed on another connection or for another message
/// do not match.
#[derive(Debug)]
pub struct Payload {
    block: Box<[u8]>,
    size: u32,
}

/// Where a message begins in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u32);

impl Payload {
    /// The payload of messages of `size` bytes; the same seed gives the same bytes.
    #[must_use]
    pub fn new(size: u32, seed: u64) -> Self {
        let block = pattern(seed, size as usize + WINDOWS as usize).into_boxed_slice();
        Self { block, size }
    }

    /// The whole block, to be copied into the send buffer.
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
        // Fibonacci hashing: consecutive numbers give windows far apart.
        let mixed = connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(message);
        let mixed = mixed.wrapping_mul(0xD1B5_4A32_D192_ED03) >> 32;
        let start = (mixed % u64::from(WINDOWS)) as u32;
        Window(start)
    }

    /// Whether `echo` equals the bytes of the window's message from its byte `at` on. False if
    /// `echo` exceeds the end of the message.
    #[must_use]
    pub fn matches(&self, window: Window, at: u32, echo: &[u8]) -> bool {
        let left = (self.size - at) as usize;
        let from = window.offset() + at as usize;
        echo.len() <= left && self.block[from..from + echo.len()] == *echo
    }
}

impl Window {
    /// The offset of its first byte in [`Payload::block`].
    #[must_use]
    pub fn offset(self) -> usize {
        self.0 as usize
    }
}

/// The number of windows.
const WINDOWS: u32 = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_of_consecutive_connections_and_messages_differ() {
        let payload = Payload::new(64, 1);
        let windows: Vec<_> = (0..100).map(|c| payload.window(c, 0).0).collect();
        let mut distinct = windows.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 95, "{windows:?}");
        assert_ne!(payload.window(7, 0), payload.window(7, 1));
    }

    #[test]
    fn no_payload_byte_equals_the_first_byte_of_a_stamp() {
        assert!(!Payload::new(1 << 16, 3).block().contains(&uring_echo::stamp::MAGIC[0]));
    }

    proptest! {
        #[test]
        fn an_echo_matches_in_parts_and_a_changed_one_does_not(
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
