//! Who is told of a watch while it goes on, once a second.

use crate::model::watch_live::WatchSecond;
use crate::render::progress::say;
use crate::render::watch_findings::line;

/// Everybody who is told.
#[derive(Debug, Default)]
pub(super) struct Audience;

impl Audience {
    /// A second is over.
    pub(super) fn second(&mut self, second: &WatchSecond<'_>) {
        say(&line(second));
    }
}
