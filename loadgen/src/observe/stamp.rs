//! Separates the stamp from the bytes that follow it on a connection.

use uring_echo::stamp::{FRAME_LEN, MAGIC, Stamp, StampError};

/// Collects the first bytes of one connection until they are a whole stamp or cannot be one.
#[derive(Clone, Copy, Debug)]
pub struct StampReader {
    held: [u8; FRAME_LEN],
    len: u8,
}

/// What the bytes received so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampReading {
    /// A prefix of a stamp, possibly empty.
    NeedMore,
    /// No stamp: they differ from the magic. All of them belong to the server's answer, those
    /// [held](StampReader::held) and those of this chunk.
    NotAStamp,
    /// A stamp.
    Stamp {
        /// The decoded stamp.
        stamp: Stamp,
        /// How many bytes of this chunk belong to it; the rest is the server's answer.
        taken: usize,
    },
    /// A stamp by its magic, but one that cannot be decoded.
    Invalid(StampError),
}

impl StampReader {
    /// Of a connection on which nothing was received yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [0; FRAME_LEN], len: 0 }
    }

    /// Takes the next bytes of the connection. Any result but [`StampReading::NeedMore`] is final:
    /// this is not called again.
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

/// Whether `chunk` equals the magic from its byte `at` on, as far as both go.
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
    fn a_stamp_and_payload_in_one_chunk_are_separated() {
        let mut bytes = stamp().encode().to_vec();
        bytes.extend_from_slice(b"echo");
        let expected = StampReading::Stamp { stamp: stamp(), taken: FRAME_LEN };
        assert_eq!(StampReader::new().push(&bytes), expected);
    }

    #[test]
    fn an_empty_chunk_needs_more() {
        assert_eq!(StampReader::new().push(b""), StampReading::NeedMore);
    }

    #[test]
    fn another_protocol_is_recognised_at_the_first_byte_that_differs() {
        let mut reader = StampReader::new();
        assert_eq!(reader.push(b"UECH"), StampReading::NeedMore);
        assert_eq!(reader.push(b"x"), StampReading::NotAStamp);
        assert_eq!(reader.held(), b"UECH");
    }

    #[test]
    fn a_damaged_stamp_is_invalid() {
        let mut bytes = stamp().encode();
        bytes[8] = 9;
        let expected = StampReading::Invalid(StampError::UnknownVersion { got: 9 });
        assert_eq!(StampReader::new().push(&bytes), expected);
    }

    proptest! {
        #[test]
        fn a_stamp_is_decoded_from_chunks(cuts in proptest::collection::vec(0..=FRAME_LEN, 0..8)) {
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
            let ends = matches!(end, StampReading::Stamp { stamp: read, .. } if read == stamp());
            prop_assert!(ends);
        }
    }
}
