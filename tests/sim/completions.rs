//! What the kernel has done and the shard has not heard of yet.

use std::collections::VecDeque;

use uring_echo::echo::Event;

use super::random::Dice;

/// Which operation an event belongs to: events of one keep their order, others may overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Accept(usize),
    Recv(usize),
    Send(usize),
    Close(usize),
    /// Of nobody any more.
    Stray,
}

#[derive(Debug, Default)]
pub(crate) struct Completions {
    queue: VecDeque<(Lane, Event)>,
}

impl Completions {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn push(&mut self, lane: Lane, event: Event) {
        self.queue.push_back((lane, event));
    }

    /// The next one, or one of the next `window` that is the first of its lane.
    pub(crate) fn pop(&mut self, window: usize, dice: &mut Dice) -> Option<(Lane, Event)> {
        let reach = self.queue.len().min(window);
        if reach <= 1 {
            return self.queue.pop_front();
        }
        let lane = self.queue[dice.index(reach)].0;
        let first = self.queue.iter().position(|entry| entry.0 == lane)?;
        self.queue.remove(first)
    }
}
