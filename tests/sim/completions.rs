//! Completed operations whose events the shard has not been given yet.

use std::collections::VecDeque;

use uring_echo::echo::Event;

use super::random::Random;

/// The operation that an event belongs to. Events of one operation keep their order, those of
/// others may overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKey {
    Accept(usize),
    Recv(usize),
    /// A send, or the question how many bytes are unsent: each in its turn.
    Send(usize),
    Watch(usize),
    Close(usize),
    /// Of a connection that is gone.
    Stray,
}

#[derive(Debug, Default)]
pub(crate) struct Completions {
    queue: VecDeque<(OpKey, Event)>,
}

impl Completions {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn push(&mut self, op_key: OpKey, event: Event) {
        self.queue.push_back((op_key, event));
    }

    /// The next one of the operation of `op_key`.
    pub(crate) fn pop_of(&mut self, op_key: OpKey) -> Option<(OpKey, Event)> {
        let first = self.queue.iter().position(|entry| entry.0 == op_key)?;
        self.queue.remove(first)
    }

    /// The next one, or one of the next `window` that is the first of its operation.
    pub(crate) fn pop(&mut self, window: usize, random: &mut Random) -> Option<(OpKey, Event)> {
        let reach = self.queue.len().min(window);
        if reach <= 1 {
            return self.queue.pop_front();
        }
        self.pop_of(self.queue[random.index(reach)].0)
    }
}
