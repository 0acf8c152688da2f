//! When something arrives.

/// How clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// At equal distances.
    Constant,
    /// Independently of each other.
    Poisson,
    /// So many at once, at equal distances.
    Bursts(u32),
    /// One client that waits for each answer.
    PingPong,
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub(crate) arrivals: Arrivals,
    /// Clients a second.
    pub(crate) rate: u32,
    /// After it was accepted, a client sends so many messages, each [`TURNAROUND_NS`] after the
    /// answer before.
    pub(crate) messages: u32,
}

/// From an answer to the client's next message, in nanoseconds.
pub(crate) const TURNAROUND_NS: u64 = 15_000;
/// Clients simulated.
pub(crate) const CLIENTS: u32 = 20_000;

impl Trace {
    pub(crate) fn ping_pong() -> Self {
        Self { arrivals: Arrivals::PingPong, rate: 0, messages: 2 * CLIENTS }
    }

    /// The instants at which clients come, in order, in nanoseconds.
    pub(crate) fn clients(self) -> Vec<u64> {
        let gap = 1e9 / f64::from(self.rate.max(1));
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut at = 1e6;
        let mut next = |index: u32| {
            at += match self.arrivals {
                Arrivals::Constant | Arrivals::PingPong => gap,
                Arrivals::Bursts(size) if index.is_multiple_of(size) => gap * f64::from(size),
                Arrivals::Bursts(_) => 0.0,
                Arrivals::Poisson => -gap * uniform(&mut random).ln(),
            };
            whole(at)
        };
        let clients = if self.arrivals == Arrivals::PingPong { 1 } else { CLIENTS };
        (0..clients).map(&mut next).collect()
    }
}

/// A number that is not negative, without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the values are small and positive; a cast saturates"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// Above 0 and at most 1 (xorshift64*).
fn uniform(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    (bits as f64 + 1.0) / (1_u64 << 53) as f64
}
