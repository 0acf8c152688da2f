//! How a watch goes, on stderr: on a terminal that is large enough the whole of it, else a line a
//! second.

use std::io;

use super::live::{Screen, WatchState, draw_watch};
use super::output;
use super::progress::{redraws, say};
use super::watch_findings::line;
use crate::model::watch_live::WatchSecond;
use crate::sys::processes::Owners;

/// Shows the watch so far; a terminal that was taken over is given back when it is dropped.
#[derive(Debug)]
pub struct WatchProgress(Display);

#[derive(Debug)]
enum Display {
    Lines,
    /// The whole terminal, from the first second on.
    Live(Option<Screen>, Box<WatchState>),
}

impl WatchProgress {
    /// Of the watch of `target`.
    #[must_use]
    pub fn new(target: String) -> Self {
        Self(match redraws() && Screen::fits() {
            true => Display::Live(None, Box::new(WatchState::new(target))),
            false => Display::Lines,
        })
    }

    /// A second is over.
    pub fn second(&mut self, second: &WatchSecond<'_>, owners: &Owners) {
        let drawn = match &mut self.0 {
            Display::Lines => {
                say(&line(second));
                return;
            }
            Display::Live(screen, state) => {
                state.advance(second, owners);
                draw(screen, state)
            }
        };
        if let Err(error) = drawn {
            self.0 = Display::Lines;
            say(&format!("the terminal cannot be drawn on: {error}"));
        }
    }
}

fn draw(screen: &mut Option<Screen>, state: &WatchState) -> io::Result<()> {
    if screen.is_none() {
        *screen = Some(Screen::open(output::wants_color())?);
    }
    let mut screens = screen.iter_mut();
    screens.try_for_each(|screen| screen.draw(|frame, color| draw_watch(frame, state, color)))
}
