//! When a worker is at its maximum of connections, and when no longer: a line in the log for each,
//! but not for a maximum that is reached again and again.

use tracing::{info, warn};

/// The least time between two lines that say "full".
const QUIET_NS: u64 = 60_000_000_000;
/// Full until this share of the connections has ended.
const RECOVERED_SHARE: u64 = 16;

/// Whether one worker is full.
#[derive(Debug)]
pub(super) struct Fullness {
    worker: usize,
    most: u64,
    state: State,
    /// When "full" was last logged.
    told_at: Option<u64>,
    /// Times it was full without a line.
    untold: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Since when, and whether that was logged.
    Full {
        since: u64,
        told: bool,
    },
}

/// What is to be logged.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Full { untold: u64 },
    Recovered { full_ns: u64 },
}

impl Fullness {
    pub(super) const fn new(worker: usize, max_connections: u32) -> Self {
        let most = max_connections as u64;
        Self { worker, most, state: State::Open, told_at: None, untold: 0 }
    }

    /// To be called again and again, with the connections open at `now`.
    #[inline]
    pub(super) fn observe(&mut self, now: u64, open: u64) {
        let (worker, most) = (self.worker, self.most);
        match self.change(now, open) {
            None => {}
            Some(Line::Full { untold }) => warn!(
                worker,
                connections = most,
                times_before = untold,
                "full: more connections wait in the queue (--max-connections, ulimit -n)"
            ),
            Some(Line::Recovered { full_ns }) => {
                info!(worker, connections = open, full_ms = full_ns / 1_000_000, "no longer full");
            }
        }
    }

    fn change(&mut self, now: u64, open: u64) -> Option<Line> {
        match self.state {
            State::Open if open >= self.most => {
                let told = self.told_at.is_none_or(|at| now.saturating_sub(at) >= QUIET_NS);
                self.state = State::Full { since: now, told };
                if !told {
                    self.untold += 1;
                    return None;
                }
                self.told_at = Some(now);
                Some(Line::Full { untold: std::mem::take(&mut self.untold) })
            }
            State::Full { since, told } if open <= self.recovered() => {
                self.state = State::Open;
                told.then_some(Line::Recovered { full_ns: now.saturating_sub(since) })
            }
            State::Open | State::Full { .. } => None,
        }
    }

    /// At most this many open connections are "no longer full".
    const fn recovered(&self) -> u64 {
        let share = self.most / RECOVERED_SHARE;
        self.most - if share == 0 { 1 } else { share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_is_told_once_and_so_is_its_end() {
        let mut fullness = Fullness::new(0, 32);
        assert_eq!(fullness.change(0, 31), None);
        assert_eq!(fullness.change(1_000, 32), Some(Line::Full { untold: 0 }));
        for open in [32, 31, 32, 31] {
            assert_eq!(fullness.change(2_000, open), None, "one less is still full");
        }
        assert_eq!(fullness.change(5_000, 30), Some(Line::Recovered { full_ns: 4_000 }));
        assert_eq!(fullness.change(6_000, 0), None);
    }

    #[test]
    fn a_maximum_of_one_can_end() {
        let mut fullness = Fullness::new(0, 1);
        assert_eq!(fullness.change(0, 1), Some(Line::Full { untold: 0 }));
        assert_eq!(fullness.change(9, 0), Some(Line::Recovered { full_ns: 9 }));
    }

    #[test]
    fn again_and_again_is_told_once_a_minute_with_its_count() {
        let mut fullness = Fullness::new(0, 2);
        assert_eq!(fullness.change(0, 2), Some(Line::Full { untold: 0 }));
        assert_eq!(fullness.change(1, 1), Some(Line::Recovered { full_ns: 1 }));
        for now in 2..12 {
            assert_eq!(fullness.change(now, 2 - now % 2), None, "neither is told");
        }
        assert_eq!(fullness.change(QUIET_NS, 2), Some(Line::Full { untold: 5 }));
    }
}
