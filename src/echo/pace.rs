//! How fast a peer takes what it is sent.
//!
//! A send never waits in the kernel: it takes what the socket has room for. What is left over tells
//! that the peer reads more slowly than it sends. From then on each receive is armed only when the
//! socket is writable, so that further bytes stay in the kernel's buffers, at the peer's expense,
//! and not in the pool.

/// Receives that find the socket writable at once before the next one is armed without looking.
const CAUTION: u8 = 8;

/// What is known of a peer's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// Receives that are still to wait for a writable socket.
    caution: u8,
    /// Waits until the socket is writable.
    watching: bool,
    question: Question,
    /// Whether `mark` was ever set.
    is_marked: bool,
    /// Bytes the socket has taken, modulo 2^32.
    taken: u32,
    /// Bytes the peer's system had acknowledged when it was last asked for, modulo 2^32.
    mark: u32,
}

/// Why it was asked how many bytes are unsent, while the answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// It was not asked.
    None,
    /// To measure from here.
    Mark,
    /// To decide whether the peer takes enough.
    Verdict,
}

/// What the answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Something to measure from.
    Noted,
    /// The peer has taken enough.
    Progress,
    /// It has not.
    Stuck,
}

impl Pace {
    pub(super) const NEW: Self = Self {
        caution: 0,
        watching: false,
        question: Question::None,
        is_marked: false,
        taken: 0,
        mark: 0,
    };

    /// Whether a receive is to wait until the socket is writable.
    pub(super) fn is_cautious(&self) -> bool {
        self.caution > 0
    }

    pub(super) fn is_watching(&self) -> bool {
        self.watching
    }

    /// Whether an answer is awaited.
    pub(super) fn is_asking(&self) -> bool {
        self.question != Question::None
    }

    /// The socket took `bytes`.
    pub(super) fn took(&mut self, bytes: u32) {
        self.taken = self.taken.wrapping_add(bytes);
    }

    /// The socket took less than it was to. True if it was not known to be slow.
    pub(super) fn stall(&mut self) -> bool {
        let is_new = self.caution == 0;
        self.caution = CAUTION;
        is_new
    }

    pub(super) fn watch(&mut self) {
        assert!(!self.watching, "watched twice");
        self.watching = true;
    }

    /// The socket is writable, `at_once` if it was so all the time.
    pub(super) fn writable(&mut self, at_once: bool) {
        self.watching = false;
        self.caution = if at_once { self.caution.saturating_sub(1) } else { CAUTION };
    }

    /// Asks how many bytes are unsent. False if that is asked already.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        let is_new = !self.is_asking();
        self.question = question;
        is_new
    }

    /// Of the bytes that the socket took, `unsent` are not acknowledged by the peer's system, if
    /// this kernel can tell.
    pub(super) fn answer(&mut self, unsent: Option<u32>, min_drain: u32) -> Answer {
        let question = std::mem::replace(&mut self.question, Question::None);
        let drained = match unsent.map(|unsent| self.taken.wrapping_sub(unsent)) {
            Some(acknowledged) => {
                let before = std::mem::replace(&mut self.mark, acknowledged);
                let was_marked = std::mem::replace(&mut self.is_marked, true);
                if was_marked { acknowledged.wrapping_sub(before) } else { 0 }
            }
            None => 0,
        };
        match question {
            Question::Verdict if drained < min_drain => Answer::Stuck,
            Question::Verdict => Answer::Progress,
            _ => Answer::Noted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_counts_what_left_since_the_mark() {
        let mut pace = Pace::NEW;
        pace.took(u32::MAX);
        assert!(pace.ask(Question::Mark) && !pace.ask(Question::Mark));
        assert_eq!(pace.answer(Some(1000), 100), Answer::Noted);
        pace.took(50);
        pace.ask(Question::Verdict);
        assert_eq!(pace.answer(Some(950), 100), Answer::Progress, "100 of 1050");
        pace.ask(Question::Verdict);
        assert_eq!(pace.answer(Some(851), 100), Answer::Stuck, "99 more");
        pace.ask(Question::Verdict);
        assert_eq!(pace.answer(None, 100), Answer::Stuck, "nothing is known");
    }

    #[test]
    fn caution_ends_after_a_while_without_waiting() {
        let mut pace = Pace::NEW;
        assert!(pace.stall() && !pace.stall());
        for _ in 1..CAUTION {
            pace.writable(true);
        }
        assert!(pace.is_cautious());
        pace.writable(false);
        for _ in 0..CAUTION {
            assert!(pace.is_cautious());
            pace.writable(true);
        }
        assert!(!pace.is_cautious());
    }
}
