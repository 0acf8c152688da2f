//! A client, and the oracle: what it sends, what must come back.

use uring_echo::echo::{ListenerId, PeerKey};

use super::random::Dice;
use super::scenario::Plan;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) plan: Plan,
    pub(crate) stage: Stage,
    pub(crate) number: u32,
    /// Bytes written so far.
    pub(crate) sent: u32,
    /// Of those, bytes the kernel took out for the shard.
    pub(crate) taken: u32,
    /// Whether its stream is ended.
    pub(crate) fin: bool,
    /// Whether it broke the connection off.
    pub(crate) reset: bool,
    /// Bytes under way to it that it has not read.
    pub(crate) unread: u32,
    pub(crate) greeted: u32,
    pub(crate) echoed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Away,
    /// In the kernel's queue, connected as far as it knows.
    Queued,
    Accepted,
    /// Aborted in the queue, or closed.
    Over,
}

impl Client {
    pub(crate) fn new(number: u32, plan: Plan) -> Self {
        Self {
            plan,
            stage: Stage::Away,
            number,
            sent: 0,
            taken: 0,
            fin: false,
            reset: false,
            unread: 0,
            greeted: 0,
            echoed: 0,
        }
    }

    pub(crate) fn listener(&self) -> ListenerId {
        ListenerId(u8::try_from(self.plan.listener).expect("few listeners"))
    }

    pub(crate) fn address(&self) -> PeerKey {
        PeerKey(self.plan.address)
    }

    /// Byte `nth` of what it sends.
    pub(crate) fn byte(number: u32, nth: u32) -> u8 {
        let mixed = nth.wrapping_mul(37) ^ (nth >> 7) ^ number.wrapping_mul(59);
        mixed.to_le_bytes()[0]
    }

    /// One turn while everything may go wrong.
    pub(crate) fn act(&mut self, step: u32, recv_space: u32, dice: &mut Dice) {
        if self.plan.resets.is_some_and(|at| at <= step) {
            self.reset = true;
        }
        if !self.is_connected() {
            return;
        }
        let n = dice.range(1, self.plan.chunk);
        self.write(n, recv_space);
        self.fin |= self.plan.ends && self.sent == self.plan.bytes;
        if dice.chance(self.plan.reads) {
            self.unread -= dice.range(1, 64).min(self.unread);
        }
    }

    /// One turn when it only wants to finish. True if there was something to do.
    pub(crate) fn finish(&mut self, recv_space: u32) -> bool {
        if !self.is_connected() {
            return false;
        }
        let before = (self.sent, self.fin, self.unread);
        self.write(u32::MAX, recv_space);
        self.fin |= self.sent == self.plan.bytes;
        self.unread = 0;
        before != (self.sent, self.fin, self.unread)
    }

    fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Queued | Stage::Accepted) && !self.reset
    }

    fn write(&mut self, most: u32, recv_space: u32) {
        let space = recv_space - (self.sent - self.taken);
        self.sent += most.min(space).min(self.plan.bytes - self.sent);
    }
}
