//! Stamp frame, version 1: what a server tells a client about the accept of its connection.
//!
//! 64 bytes, little endian, first on the connection and once; after it the server is a plain echo.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..8 | magic | `UECHOST1` |
//! | 8..10 | version | 1 |
//! | 10..12 | length | 64, the whole frame |
//! | 12..14 | worker | which worker accepted |
//! | 14 | engine | 1 uring, 2 epoll, 3 tokio-uring |
//! | 15 | accept mode | 1 reuseport, 2 shared |
//! | 16..24 | accepted, monotonic | nanoseconds, comparable within one clock domain |
//! | 24..32 | accepted, realtime | nanoseconds since 1970 |
//! | 32..40 | sequence | how many this worker had accepted before |
//! | 40..48 | clock domain | see [`ClockDomain`] |
//! | 48..52 | queue residency | milliseconds + 1 from `TCP_INFO`; 0: not sampled, always so far |
//! | 52..56 | reserved | 0 |
//! | 56..64 | checksum | FNV-1a 64 of bytes 0..56 |

use std::path::Path;
use std::{fs, io};

/// Bytes of a frame.
pub const FRAME_LEN: usize = 64;

/// The first eight bytes of every frame, whatever its version.
pub const MAGIC: [u8; 8] = *b"UECHOST1";

/// The version this module writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// One accept, as the server saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The worker that accepted.
    pub worker: u16,
    /// What drives that worker.
    pub engine: Engine,
    /// How the workers share the listening address.
    pub accept: AcceptMode,
    /// When the server held the connection: `CLOCK_MONOTONIC`, nanoseconds.
    pub accepted_monotonic_ns: u64,
    /// The same instant on `CLOCK_REALTIME`, nanoseconds since 1970.
    pub accepted_realtime_ns: u64,
    /// How many connections this worker had accepted before this one.
    pub sequence: u64,
    /// Where `accepted_monotonic_ns` may be compared.
    pub clock_domain: ClockDomain,
}

impl Stamp {
    /// The frame to send.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        frame[0..8].copy_from_slice(&MAGIC);
        frame[8..10].copy_from_slice(&VERSION.to_le_bytes());
        frame[10..12].copy_from_slice(&LENGTH.to_le_bytes());
        frame[12..14].copy_from_slice(&self.worker.to_le_bytes());
        frame[14] = self.engine as u8;
        frame[15] = self.accept as u8;
        frame[16..24].copy_from_slice(&self.accepted_monotonic_ns.to_le_bytes());
        frame[24..32].copy_from_slice(&self.accepted_realtime_ns.to_le_bytes());
        frame[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        frame[40..48].copy_from_slice(&self.clock_domain.0.to_le_bytes());
        let checksum = fnv1a(&frame[..CHECKSUM_AT]);
        frame[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        frame
    }

    /// Reads a frame from the start of `bytes`; what follows the frame is ignored, as is the queue
    /// residency.
    ///
    /// # Errors
    /// Whatever differs from a frame this version would write, by name; see [`StampError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StampError> {
        let Some(frame) = bytes.first_chunk::<FRAME_LEN>() else {
            return Err(StampError::TooShort { got: bytes.len() });
        };
        check_envelope(frame)?;
        Ok(Self {
            worker: u16_at(frame, 12),
            engine: Engine::try_from(frame[14])?,
            accept: AcceptMode::try_from(frame[15])?,
            accepted_monotonic_ns: u64_at(frame, 16),
            accepted_realtime_ns: u64_at(frame, 24),
            sequence: u64_at(frame, 32),
            clock_domain: ClockDomain(u64_at(frame, 40)),
        })
    }
}

/// What drives a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Engine {
    /// Completions from the project's own io_uring loop.
    Uring = 1,
    /// Readiness from epoll(7).
    Epoll = 2,
    /// The tokio-uring runtime.
    TokioUring = 3,
}

impl Engine {
    /// The name on the command line, in logs and in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::TokioUring => "tokio-uring",
        }
    }
}

impl TryFrom<u8> for Engine {
    type Error = StampError;

    fn try_from(byte: u8) -> Result<Self, StampError> {
        match byte {
            1 => Ok(Self::Uring),
            2 => Ok(Self::Epoll),
            3 => Ok(Self::TokioUring),
            got => Err(StampError::UnknownEngine { got }),
        }
    }
}

/// How workers share a listening address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AcceptMode {
    /// A listener for each worker (`SO_REUSEPORT`, socket(7)): a queue for each worker.
    Reuseport = 1,
    /// One listener that all workers accept from: one queue.
    Shared = 2,
}

impl AcceptMode {
    /// The name on the command line, in logs and in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reuseport => "reuseport",
            Self::Shared => "shared",
        }
    }
}

impl TryFrom<u8> for AcceptMode {
    type Error = StampError;

    fn try_from(byte: u8) -> Result<Self, StampError> {
        match byte {
            1 => Ok(Self::Reuseport),
            2 => Ok(Self::Shared),
            got => Err(StampError::UnknownAcceptMode { got }),
        }
    }
}

/// Where readings of `CLOCK_MONOTONIC` compare: one boot of one kernel, one time namespace.
///
/// FNV-1a 64 of the boot id (`/proc/sys/kernel/random/boot_id`, random(4)) followed by the name of
/// the time namespace (time_namespaces(7), kernel 5.6), so two containers on one host share a
/// domain and two hosts do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClockDomain(pub u64);

impl ClockDomain {
    /// A server that could not find out: comparable with nothing, not even itself.
    pub const UNKNOWN: Self = Self(0);

    /// The domain of the calling process.
    ///
    /// # Errors
    /// What reading from `/proc` failed with, for instance where it is not mounted.
    pub fn current() -> io::Result<Self> {
        let boot_id = fs::read("/proc/sys/kernel/random/boot_id")?;
        let namespace = match fs::read_link("/proc/self/ns/time") {
            Ok(name) => name,
            // A kernel without time namespaces: the boot says it all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Path::new("").to_owned(),
            Err(error) => return Err(error),
        };
        Ok(Self::of(boot_id.trim_ascii(), namespace.as_os_str().as_encoded_bytes()))
    }

    /// Whether monotonic readings of the two may be subtracted.
    #[must_use]
    pub fn compares_with(self, other: Self) -> bool {
        self == other && self != Self::UNKNOWN
    }

    fn of(boot_id: &[u8], namespace: &[u8]) -> Self {
        let hash = fnv1a_from(fnv1a(boot_id), namespace);
        // Zero is taken; a hash that falls on it may as well be one.
        Self(hash.max(1))
    }
}

/// Why bytes are not a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// Fewer bytes than a frame.
    #[error("a stamp is {FRAME_LEN} bytes, got {got}")]
    TooShort {
        /// How many there were.
        got: usize,
    },
    /// The bytes do not begin like a frame.
    #[error("not a stamp: it does not begin with the magic \"UECHOST1\"")]
    WrongMagic,
    /// A frame of a version this program does not know.
    #[error("stamp version {got} is unknown (this program reads {VERSION})")]
    UnknownVersion {
        /// The version it names.
        got: u16,
    },
    /// A frame of version 1 whose length is not that of version 1.
    #[error("stamp length {got} does not fit version {VERSION} ({FRAME_LEN} bytes)")]
    WrongLength {
        /// The length it names.
        got: u16,
    },
    /// The bytes were changed on their way.
    #[error("stamp checksum is {got:#018x}, its bytes give {expected:#018x}")]
    WrongChecksum {
        /// What the frame says.
        got: u64,
        /// What its bytes give.
        expected: u64,
    },
    /// An engine this program does not know.
    #[error("stamp names an unknown engine {got}")]
    UnknownEngine {
        /// The engine's number.
        got: u8,
    },
    /// An accept mode this program does not know.
    #[error("stamp names an unknown accept mode {got}")]
    UnknownAcceptMode {
        /// The mode's number.
        got: u8,
    },
    /// The reserved bytes are in use, so the frame means more than this program reads.
    #[error("stamp uses its reserved bytes: {got:#010x}")]
    ReservedInUse {
        /// What is there.
        got: u32,
    },
}

/// The parts that say whether the rest can be read. The version decides where everything else is,
/// so it is judged before the checksum.
fn check_envelope(frame: &[u8; FRAME_LEN]) -> Result<(), StampError> {
    if frame[0..8] != MAGIC {
        return Err(StampError::WrongMagic);
    }
    let version = u16_at(frame, 8);
    if version != VERSION {
        return Err(StampError::UnknownVersion { got: version });
    }
    let length = u16_at(frame, 10);
    if length != LENGTH {
        return Err(StampError::WrongLength { got: length });
    }
    let (got, expected) = (u64_at(frame, CHECKSUM_AT), fnv1a(&frame[..CHECKSUM_AT]));
    if got != expected {
        return Err(StampError::WrongChecksum { got, expected });
    }
    match u32_at(frame, 52) {
        0 => Ok(()),
        got => Err(StampError::ReservedInUse { got }),
    }
}

/// FNV-1a, 64 bit (RFC 9923). Every step is a bijection of the state, so a change within one byte
/// is always found; it guards against accidents, not against people.
fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_from(0xcbf2_9ce4_8422_2325, bytes)
}

fn fnv1a_from(state: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(state, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn u16_at(frame: &[u8; FRAME_LEN], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(frame, at))
}

fn u32_at(frame: &[u8; FRAME_LEN], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(frame, at))
}

fn u64_at(frame: &[u8; FRAME_LEN], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(frame, at))
}

fn bytes_at<const N: usize>(frame: &[u8; FRAME_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| frame[at + i])
}

const LENGTH: u16 = 64;
const CHECKSUM_AT: usize = 56;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Stamp {
        Stamp {
            worker: 0x0102,
            engine: Engine::Uring,
            accept: AcceptMode::Shared,
            accepted_monotonic_ns: 0x1112_1314_1516_1718,
            accepted_realtime_ns: 0x2122_2324_2526_2728,
            sequence: 0x3132_3334_3536_3738,
            clock_domain: ClockDomain(0x4142_4344_4546_4748),
        }
    }

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        let engine =
            prop_oneof![Just(Engine::Uring), Just(Engine::Epoll), Just(Engine::TokioUring)];
        let accept = prop_oneof![Just(AcceptMode::Reuseport), Just(AcceptMode::Shared)];
        (any::<(u16, u64, u64, u64, u64)>(), engine, accept).prop_map(
            |((worker, monotonic, realtime, sequence, domain), engine, accept)| Stamp {
                worker,
                engine,
                accept,
                accepted_monotonic_ns: monotonic,
                accepted_realtime_ns: realtime,
                sequence,
                clock_domain: ClockDomain(domain),
            },
        )
    }

    /// A frame changed by `edit` and sealed again, so that only the edit is wrong.
    fn resealed(edit: impl FnOnce(&mut [u8; FRAME_LEN])) -> [u8; FRAME_LEN] {
        let mut frame = sample().encode();
        edit(&mut frame);
        let checksum = fnv1a(&frame[..CHECKSUM_AT]);
        frame[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        frame
    }

    #[test]
    fn layout_is_fixed_to_the_byte() {
        let mut golden = Vec::new();
        golden.extend_from_slice(b"UECHOST1");
        golden.extend_from_slice(&[1, 0, 64, 0, 0x02, 0x01, 1, 2]);
        golden.extend_from_slice(&[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        golden.extend_from_slice(&[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21]);
        golden.extend_from_slice(&[0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31]);
        golden.extend_from_slice(&[0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41]);
        golden.extend_from_slice(&[0; 8]);
        golden.extend_from_slice(&GOLDEN_CHECKSUM);
        assert_eq!(sample().encode().as_slice(), golden);
    }

    #[test]
    fn checksum_is_the_published_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn each_fault_has_its_name() {
        use StampError as E;
        let cases = [
            (resealed(|f| f[0] = b'X'), E::WrongMagic),
            (resealed(|f| f[8] = 2), E::UnknownVersion { got: 2 }),
            (resealed(|f| f[10] = 65), E::WrongLength { got: 65 }),
            (resealed(|f| f[14] = 9), E::UnknownEngine { got: 9 }),
            (resealed(|f| f[15] = 0), E::UnknownAcceptMode { got: 0 }),
            (resealed(|f| f[53] = 1), E::ReservedInUse { got: 256 }),
        ];
        for (frame, expected) in cases {
            assert_eq!(Stamp::decode(&frame), Err(expected));
        }
        assert_eq!(Stamp::decode(b"UECHOST1"), Err(E::TooShort { got: 8 }));
        let mut damaged = sample().encode();
        damaged[20] ^= 1;
        assert!(matches!(Stamp::decode(&damaged), Err(E::WrongChecksum { .. })));
    }

    #[test]
    fn a_sampled_queue_residency_is_accepted() {
        assert_eq!(Stamp::decode(&resealed(|frame| frame[48] = 7)), Ok(sample()));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(Engine::TokioUring.name(), "tokio-uring");
        assert_eq!(AcceptMode::Reuseport.name(), "reuseport");
    }

    #[test]
    fn clock_domain_is_of_the_boot_and_the_namespace() {
        let here = ClockDomain::current().unwrap();
        assert!(here.compares_with(ClockDomain::current().unwrap()));
        assert!(!ClockDomain::UNKNOWN.compares_with(ClockDomain::UNKNOWN));
        let domain = ClockDomain::of(b"boot", b"time:[1]");
        assert_ne!(domain, ClockDomain::of(b"boot", b"time:[2]"));
        assert_ne!(domain, ClockDomain::of(b"toob", b"time:[1]"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(stamp in any_stamp(), tail: Vec<u8>) {
            let mut bytes = stamp.encode().to_vec();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(Stamp::decode(&bytes), Ok(stamp));
        }

        #[test]
        fn any_flipped_bit_is_found(stamp in any_stamp(), bit in 0..FRAME_LEN * 8) {
            let mut frame = stamp.encode();
            frame[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Stamp::decode(&frame).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(Stamp::decode(&bytes).is_err());
        }
    }

    // Computed apart from this code.
    const GOLDEN_CHECKSUM: [u8; 8] = [0x2e, 0x25, 0xe5, 0x67, 0x3f, 0x98, 0xb4, 0x6f];
}
