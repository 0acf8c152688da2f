//! Taking the stamp off the front of a connection.

use uring_echo::stamp::{FRAME_LEN, MAGIC, Stamp, StampError};

/// Collects the first bytes of one connection until they are a stamp or cannot become one.
#[derive(Clone, Copy, Debug)]
pub struct StampReader {
    held: [u8; FRAME_LEN],
    len: u8,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampReading {
    /// The beginning of a stamp, or nothing yet.
    NeedMore,
    /// Something else: they differ from the magic. All of them are the server's answer, those
    /// [held](StampReader::held) and those of this chunk.
    NotAStamp,
    /// A stamp.
    Stamp {
        /// What it says.
        stamp: Stamp,
        /// How many bytes of this chunk belong to it; the rest is the server's answer.
        taken: usize,
    },
    /// A stamp by its magic, but one that cannot be read.
    Invalid(StampError),
}

impl StampReader {
    /// Of a connection that has brought nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [0; FRAME_LEN], len: 0 }
    }

    /// Takes the next bytes of the connection. After anything but [`StampReading::NeedMore`] there
    /// is nothing more to ask.
    pub fn push(&mut self, chunk: &[u8]) -> StampReading {
        let len = usize::from(self.len);
        let taken = chunk.len().min(FRAME_LEN - len);
        if !continues_magic(len, chunk) {
            return StampReading::NotAStamp;
        }
        self.held[len..len + taken].copy_from_slice(&chunk[..taken]);
        self.len += u8::try_from(taken).expect("a frame is 64 bytes");
        if len + taken < FRAME_LEN {
            return StampReading::NeedMore;
        }
        match Stamp::decode(&self.held) {
            Ok(stamp) => StampReading::Stamp { stamp, taken },
            Err(error) => StampReading::Invalid(error),
        }
    }

    /// The bytes taken so far.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.len)]
    }
}

impl Default for StampReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `chunk` goes on as the magic does from its byte `at` on.
fn continues_magic(at: usize, chunk: &[u8]) -> bool {
    MAGIC.iter().skip(at).zip(chunk).all(|(expected, byte)| expected == byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uring_echo::stamp::{AcceptMode, ClockDomain, Engine};

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            worker: 3,
            engine: Engine::Uring,
            accept: AcceptMode::Reuseport,
            accepted_monotonic_ns: 1_000,
            accepted_realtime_ns: 2_000,
            sequence: 4,
            clock_domain: ClockDomain(5),
        }
    }

    #[test]
    fn a_stamp_and_what_follows_in_one_piece() {
        let mut bytes = stamp().encode().to_vec();
        bytes.extend_from_slice(b"echo");
        let expected = StampReading::Stamp { stamp: stamp(), taken: FRAME_LEN };
        assert_eq!(StampReader::new().push(&bytes), expected);
    }

    #[test]
    fn nothing_is_not_an_answer() {
        assert_eq!(StampReader::new().push(b""), StampReading::NeedMore);
    }

    #[test]
    fn another_protocol_is_told_by_its_first_different_byte() {
        let mut reader = StampReader::new();
        assert_eq!(reader.push(b"UECH"), StampReading::NeedMore);
        assert_eq!(reader.push(b"x"), StampReading::NotAStamp);
        assert_eq!(reader.held(), b"UECH");
    }

    #[test]
    fn a_damaged_stamp_is_named() {
        let mut bytes = stamp().encode();
        bytes[8] = 9;
        let expected = StampReading::Invalid(StampError::UnknownVersion { got: 9 });
        assert_eq!(StampReader::new().push(&bytes), expected);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0..=FRAME_LEN, 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, FRAME_LEN]);
            cuts.sort_unstable();
            let frame = stamp().encode();
            let mut reader = StampReader::new();
            let mut end = StampReading::NeedMore;
            for cut in cuts.windows(2) {
                if end == StampReading::NeedMore {
                    end = reader.push(&frame[cut[0]..cut[1]]);
                }
            }
            let came = matches!(end, StampReading::Stamp { stamp: found, .. } if found == stamp());
            prop_assert!(came);
        }
    }
}
