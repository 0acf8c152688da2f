//! What is written and read as bytes, and what is counted on the way.

use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::recorder::{Recorder, Recording};
use loadgen::model::outcome::Phase;
use loadgen::model::result::RunResult;
use loadgen::render::hlog;
use uring_echo::ring::{Op, Token};
use uring_echo::stamp::{AcceptMode, ClockDomain, Engine, FRAME_LEN, Stamp};

/// A token into a submission and out of its completion.
#[must_use]
pub fn token(index: u32) -> Option<Token> {
    Token::decode(Token::new(Op::Recv, index, 7).encode())
}

/// A stamp to encode.
#[must_use]
pub fn stamp() -> Stamp {
    Stamp {
        worker: 1,
        engine: Engine::Uring,
        accept: AcceptMode::Reuseport,
        accepted_monotonic_ns: 1_234_567_890,
        accepted_realtime_ns: 1_700_000_000_000_000_000,
        sequence: 42,
        clock_domain: ClockDomain(0x0123_4567_89ab_cdef),
    }
}

/// A frame to decode.
#[must_use]
pub fn frame() -> [u8; FRAME_LEN] {
    stamp().encode()
}

/// A recorder that has recorded.
#[must_use]
pub fn recorder() -> Recorder {
    let mut recorder = Recorder::new();
    (0..1000).for_each(|n| recorder.record(Phase::AcceptDelay, delay(n)));
    recorder
}

/// One second of a run: 3,000 samples in each of three phases, absorbed and ready to be written.
#[must_use]
pub fn second() -> Aggregate {
    let mut recorder = Recorder::new();
    for phase in [Phase::AcceptDelay, Phase::Connect, Phase::EchoRtt] {
        (0..3000).for_each(|n| recorder.record(phase, delay(n)));
    }
    let mut totals = Aggregate::new(1);
    totals.absorb(&recorder.take_interval(1_000_000_000, Recording::new()));
    totals.finish();
    totals
}

/// The log of a run that has one second: a header and three lines.
#[must_use]
pub fn write_hlog(totals: &Aggregate) -> String {
    let mut result = RunResult::default();
    totals.write_into(&mut result);
    hlog::render(&result).expect("histograms of this program")
}

/// Microseconds, most of them few, some of them many; always the same.
fn delay(n: u64) -> u64 {
    8_000 + n % 97 * 40 + if n.is_multiple_of(200) { n * 1_000 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(token(9).map(Token::index), Some(9));
        assert_eq!(Stamp::decode(&frame()), Ok(stamp()));
        let log = write_hlog(&second());
        assert_eq!(log.lines().filter(|line| line.starts_with("Tag=")).count(), 2);
    }
}
