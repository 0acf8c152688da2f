//! A client, and the oracle: the bytes it sends, which must come back.

use uring_echo::echo::{ListenerId, PeerKey};

use super::random::Random;
use super::scenario::ClientScript;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) script: ClientScript,
    pub(crate) stage: Stage,
    pub(crate) number: u32,
    /// Bytes written so far.
    pub(crate) sent: u32,
    /// Of those, bytes that the kernel has put into buffers for the shard.
    pub(crate) taken: u32,
    /// Whether it has ended its stream.
    pub(crate) fin: bool,
    /// Whether it has reset the connection.
    pub(crate) reset: bool,
    /// Bytes sent to it that it has not read.
    pub(crate) unread: u32,
    pub(crate) greeted: u32,
    pub(crate) echoed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Away,
    /// Established, in the kernel's accept queue.
    Queued,
    Accepted,
    /// Aborted in the queue, or closed.
    Over,
}

impl Client {
    pub(crate) fn new(number: u32, script: ClientScript) -> Self {
        Self {
            script,
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
        ListenerId(u8::try_from(self.script.listener).expect("few listeners"))
    }

    pub(crate) fn address(&self) -> PeerKey {
        PeerKey(self.script.address)
    }

    /// Byte `nth` of what it sends.
    pub(crate) fn byte(number: u32, nth: u32) -> u8 {
        let mixed = nth.wrapping_mul(37) ^ (nth >> 7) ^ number.wrapping_mul(59);
        mixed.to_le_bytes()[0]
    }

    /// One step while faults are injected.
    pub(crate) fn act(&mut self, step: u32, recv_space: u32, random: &mut Random) {
        if self.script.resets.is_some_and(|at| at <= step) {
            self.reset = true;
        }
        if !self.is_connected() {
            return;
        }
        let n = random.range(1, self.script.chunk);
        self.write(n, recv_space);
        self.fin |= self.script.ends && self.sent == self.script.bytes;
        if random.chance(self.script.reads) {
            self.unread -= random.range(1, self.script.gulp).min(self.unread);
        }
    }

    /// One step while it only finishes. True if it did something.
    pub(crate) fn finish(&mut self, recv_space: u32) -> bool {
        if !self.is_connected() {
            return false;
        }
        let before = (self.sent, self.fin, self.unread);
        self.write(u32::MAX, recv_space);
        self.fin |= self.sent == self.script.bytes;
        self.unread = 0;
        before != (self.sent, self.fin, self.unread)
    }

    fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Queued | Stage::Accepted) && !self.reset
    }

    fn write(&mut self, most: u32, recv_space: u32) {
        let space = recv_space - (self.sent - self.taken);
        self.sent += most.min(space).min(self.script.bytes - self.sent);
    }
}
