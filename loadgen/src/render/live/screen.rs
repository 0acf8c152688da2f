//! The terminal while the run is shown on it: taken with [`Screen::open`], given back when dropped,
//! and before the message of a panic.

use std::io::{self, Stderr};
use std::sync::Once;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::{Frame, Terminal};

/// The least that all of the view fits into.
const COLUMNS_MIN: u16 = 60;
const ROWS_MIN: u16 = 18;

/// The alternate screen of the terminal at standard error.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    color: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("color", &self.color).finish_non_exhaustive()
    }
}

impl Screen {
    /// Whether the terminal is large enough. Its size is asked of the terminal at standard output,
    /// error or input, whichever is one.
    pub(crate) fn fits() -> bool {
        let size = ratatui::crossterm::terminal::size();
        size.is_ok_and(|(columns, rows)| columns >= COLUMNS_MIN && rows >= ROWS_MIN)
    }

    /// Takes the terminal over.
    ///
    /// # Errors
    /// What writing to it failed with; it is given back then.
    pub(crate) fn open(color: bool) -> io::Result<Self> {
        restore_on_panic();
        execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stderr()));
        terminal.map(|terminal| Self { terminal, color }).inspect_err(|_| restore())
    }

    /// Draws a view, at the size that the terminal has now; it is told whether to use colour.
    ///
    /// # Errors
    /// What writing failed with.
    pub(in crate::render) fn draw(
        &mut self,
        view: impl FnOnce(&mut Frame<'_>, bool),
    ) -> io::Result<()> {
        let color = self.color;
        self.terminal.draw(|frame| view(frame, color)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// The main screen and the cursor, as they were.
fn restore() {
    let mut stderr = io::stderr();
    // A terminal that is gone needs nothing back.
    let (Ok(()) | Err(_)) = execute!(stderr, LeaveAlternateScreen, Show);
}

/// The message of a panic must not be written to a screen that is about to vanish.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}
