//! Stamp frames: whatever a server, or somebody else, may send first.

use uring_echo::stamp::{FRAME_LEN, Stamp, StampError};

/// Where a frame may have what a decoder ignores and an encoder does not write.
const QUEUE_RESIDENCY: std::ops::Range<usize> = 48..52;

/// Decoding is total; what it accepts encodes to the very same bytes; and since hardly any input
/// has the right checksum, the frame is also tried with the checksum it should have.
pub fn run(data: &[u8]) {
    let Err(error) = check(data) else { return };
    let Some(frame) = data.first_chunk::<FRAME_LEN>() else {
        assert_eq!(error, StampError::TooShort { got: data.len() });
        return;
    };
    if let StampError::WrongChecksum { expected, .. } = error {
        let mut sealed = *frame;
        sealed[FRAME_LEN - 8..].copy_from_slice(&expected.to_le_bytes());
        let outcome = check(&sealed);
        assert!(!matches!(outcome, Err(StampError::WrongChecksum { .. })), "{outcome:?}");
    }
}

fn check(bytes: &[u8]) -> Result<Stamp, StampError> {
    let stamp = Stamp::decode(bytes).inspect_err(|error| assert!(!error.to_string().is_empty()))?;
    if bytes[QUEUE_RESIDENCY] == [0; 4] {
        assert_eq!(stamp.encode(), bytes[..FRAME_LEN], "{stamp:?}");
    }
    Ok(stamp)
}
