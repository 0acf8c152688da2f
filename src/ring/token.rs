//! What a completion is about: operation, index and generation, packed into `user_data`.

/// The operation a completion ends or continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// A call made synchronously through the ring (socket, bind, listen).
    Call = 1,
    /// Accept, single or multishot.
    Accept = 2,
    /// Receive, single or multishot.
    Recv = 3,
    /// Send or gathered send.
    Send = 4,
    /// Close of a socket.
    Close = 5,
    /// Cancellation of another operation; its own outcome says nothing we need.
    Cancel = 6,
    /// Another thread wants the ring's attention.
    Wake = 7,
    /// Connect.
    Connect = 8,
    /// A wait until a socket is writable.
    Writable = 9,
    /// A question how many bytes of a socket are unsent.
    Unsent = 10,
    /// Look-up of a direct descriptor's peer.
    Peer = 11,
    /// A socket made in the ring's table.
    Socket = 12,
    /// An option or address of such a socket; completes only when it fails.
    Prepare = 13,
}

impl Op {
    /// Whether a success has a completion, too.
    pub(super) const fn always_completes(self) -> bool {
        !matches!(self, Self::Cancel | Self::Prepare)
    }

    const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Call,
            2 => Self::Accept,
            3 => Self::Recv,
            4 => Self::Send,
            5 => Self::Close,
            6 => Self::Cancel,
            7 => Self::Wake,
            8 => Self::Connect,
            9 => Self::Writable,
            10 => Self::Unsent,
            11 => Self::Peer,
            12 => Self::Socket,
            13 => Self::Prepare,
            _ => return None,
        })
    }
}

/// Names one operation of one owner: `op` (4 bits), `generation` (28 bits), `index` (32 bits).
///
/// The generation tells a completion for the present owner of `index` from one that was meant for
/// an earlier owner. It wraps after 2^28 owners of one index, far more than can be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    op: Op,
    index: u32,
    generation: u32,
}

impl Token {
    /// Generations are counted modulo this.
    pub const GENERATIONS: u32 = 1 << 28;

    /// A token; `generation` is taken modulo [`Self::GENERATIONS`].
    #[must_use]
    pub const fn new(op: Op, index: u32, generation: u32) -> Self {
        Self { op, index, generation: generation % Self::GENERATIONS }
    }

    /// The operation.
    #[must_use]
    pub const fn op(self) -> Op {
        self.op
    }

    /// Who asked for it.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which owner of that index.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The `user_data` of the submission.
    #[must_use]
    pub const fn encode(self) -> u64 {
        (self.op as u64) << 60 | (self.generation as u64) << 32 | self.index as u64
    }

    /// The token in a completion's `user_data`, or `None` if no token was ever encoded like this.
    #[must_use]
    pub const fn decode(bits: u64) -> Option<Self> {
        let Some(op) = Op::from_code(bits >> 60) else { return None };
        #[allow(clippy::cast_possible_truncation, reason = "the fields are cut out by design")]
        let (index, generation) = (bits as u32, (bits >> 32) as u32);
        Some(Self::new(op, index, generation))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_token_survives_the_trip(code in 1u64..=13, index: u32, generation: u32) {
            let token = Token::new(Op::from_code(code).expect("a valid code"), index, generation);
            prop_assert_eq!(Token::decode(token.encode()), Some(token));
        }

        #[test]
        fn decoding_is_total_and_exact(bits: u64) {
            if let Some(token) = Token::decode(bits) {
                prop_assert_eq!(token.encode(), bits);
            }
        }
    }
}
