//! The run while it goes on, on the whole terminal.
//!
//! [`State`] is what is shown, `view` draws it, `screen` has the terminal for as long as it lasts
//! and gives it back whatever happens.

mod screen;
mod view;

use std::collections::VecDeque;
use std::time::Duration;

pub(super) use screen::Screen;

use crate::model::live::{Live, LiveHead};

/// Seconds of the past that are drawn at most: more than a terminal has columns.
const SECONDS_MAX: usize = 400;

/// What is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) head: LiveHead,
    pub(super) elapsed: Duration,
    /// 0 to 1.
    pub(super) done: f64,
    /// Attempts per second of the last second.
    pub(super) rate: f64,
    pub(super) live: Live,
    pub(super) notes: Vec<String>,
    rates: VecDeque<u64>,
    p99s_ns: VecDeque<u64>,
    depths: VecDeque<u64>,
}

impl State {
    /// The state one second later.
    pub(super) fn advance(&mut self, elapsed: Duration, done: f64, rate: f64, live: &Live) {
        (self.elapsed, self.done, self.rate) = (elapsed, done, rate);
        self.live = live.clone();
        #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
        #[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
        let rate = rate.round() as u64;
        push(&mut self.rates, rate);
        push(&mut self.p99s_ns, live.last_second.p99_ns.unwrap_or(0));
        push(&mut self.depths, live.queue.map_or(0, |queue| queue.depth.into()));
    }
}

fn push(series: &mut VecDeque<u64>, value: u64) {
    if series.len() == SECONDS_MAX {
        series.pop_front();
    }
    series.push_back(value);
}
