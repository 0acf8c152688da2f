//! A run or a watch while it goes on, on the whole terminal.
//!
//! [`State`] and [`WatchState`] are what is shown, `view` and `watch_view` draw it, `screen` has
//! the terminal for as long as it lasts and gives it back whatever happens.

mod parts;
mod screen;
mod view;
mod watch_state;
mod watch_view;

use std::collections::VecDeque;
use std::time::Duration;

use parts::{push, whole};
pub(super) use screen::Screen;
pub(super) use view::draw as draw_run;
pub(super) use watch_state::WatchState;
pub(super) use watch_view::draw as draw_watch;

use crate::model::live::{Live, LiveHead};

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
        push(&mut self.rates, whole(rate));
        push(&mut self.p99s_ns, live.last_second.p99_ns.unwrap_or(0));
        push(&mut self.depths, live.queue.map_or(0, |queue| queue.depth.into()));
    }
}
