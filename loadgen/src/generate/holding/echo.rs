//! The one message of a held connection, and its echo.

use uring_echo::stamp::{FRAME_LEN, MAGIC};

/// Bytes of a message.
pub(super) const MESSAGE: u32 = 64;

/// How much of an echo has come; a stamp before it is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Echo {
    /// Bytes, those of a stamp included.
    received: u8,
    has_stamp: bool,
}

impl Echo {
    /// Takes `bytes`, which are not empty, as what comes next. True if the echo of `message` is
    /// whole; nothing if they are not its.
    pub(super) fn take(&mut self, bytes: &[u8], message: &[u8]) -> Option<bool> {
        if self.received == 0 {
            // No message contains this byte.
            self.has_stamp = bytes[0] == MAGIC[0];
        }
        let before = if self.has_stamp { FRAME_LEN } else { 0 };
        let passed = before.saturating_sub(self.received.into()).min(bytes.len());
        let echoed = usize::from(self.received).saturating_sub(before);
        if !message.get(echoed..)?.starts_with(&bytes[passed..]) {
            return None;
        }
        self.received = u8::try_from(usize::from(self.received) + bytes.len()).ok()?;
        Some(usize::from(self.received) == before + message.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Echo` says to each of some pieces.
    fn takes(pieces: &[&[u8]], message: &[u8]) -> Vec<Option<bool>> {
        let mut echo = Echo::default();
        pieces.iter().map(|piece| echo.take(piece, message)).collect()
    }

    #[test]
    fn an_echo_is_whole_when_its_last_byte_has_come() {
        assert_eq!(takes(&[b"abcd"], b"abcd"), [Some(true)]);
        assert_eq!(takes(&[b"a", b"bc", b"d"], b"abcd"), [Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn a_stamp_before_it_is_passed_over_wherever_it_is_cut() {
        let mut stamped = MAGIC.to_vec();
        stamped.resize(FRAME_LEN, 0);
        stamped.extend(b"abcd");
        assert_eq!(takes(&[&stamped], b"abcd"), [Some(true)]);
        for cut in 1..stamped.len() {
            let (first, rest) = stamped.split_at(cut);
            assert_eq!(takes(&[first, rest], b"abcd"), [Some(false), Some(true)], "{cut}");
        }
    }

    #[test]
    fn other_bytes_are_not_its_echo() {
        assert_eq!(takes(&[b"abxd"], b"abcd"), [None]);
        assert_eq!(takes(&[b"ab", b"xd"], b"abcd"), [Some(false), None]);
        assert_eq!(takes(&[b"abcde"], b"abcd"), [None], "more than was sent");
        assert_eq!(takes(&[b"abcd", b"e"], b"abcd"), [Some(true), None]);
    }
}
