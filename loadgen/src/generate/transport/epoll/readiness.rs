//! What epoll(7) reports, one socket at a time.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::generate::GenerateError;
use crate::generate::table::SlotId;

/// An epoll instance and what it reported last.
pub(super) struct Readiness {
    epoll: OwnedFd,
    events: Vec<Event>,
    /// Those before are taken.
    next: usize,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.events.len() - self.next;
        f.debug_struct("Readiness").field("epoll", &self.epoll).field("pending", &pending).finish()
    }
}

impl Readiness {
    pub(super) fn new() -> Result<Self, GenerateError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create1"))?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS), next: 0 })
    }

    /// Reports on `socket` as `id` from now on, also what there is already; until it is closed.
    pub(super) fn watch(&self, socket: BorrowedFd<'_>, id: SlotId) -> Result<(), GenerateError> {
        let name = u64::from(id.generation()) << 32 | u64::from(id.index());
        let added = epoll::add(&self.epoll, socket, EventData::new_u64(name), WATCHED);
        added.map_err(failed("epoll_ctl (fs.epoll.max_user_watches limits how many)"))
    }

    /// Asks the kernel for more, without waiting, if everything has been taken.
    pub(super) fn fetch(&mut self) -> Result<(), GenerateError> {
        if self.is_pending() {
            return Ok(());
        }
        self.events.clear();
        self.next = 0;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&NOW)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed("epoll_wait")(errno)),
        }
    }

    /// Whether something fetched has not been taken.
    pub(super) fn is_pending(&self) -> bool {
        self.next < self.events.len()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves that `watch` joined")]
    pub(super) fn take(&mut self) -> Option<(SlotId, EventFlags)> {
        let &Event { flags, data } = self.events.get(self.next)?;
        self.next += 1;
        let name = data.u64();
        Some((SlotId::new(name as u32, (name >> 32) as u32), flags))
    }

    /// Sleeps until there is something to fetch, for `limit` at most. By ppoll(2), which counts in
    /// nanoseconds; epoll_wait(2) counts in milliseconds.
    pub(super) fn sleep(&self, limit: Duration) -> Result<(), GenerateError> {
        let limit = Timespec::try_from(limit).expect("shorter than an age of the world");
        let mut epoll = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut epoll, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed("ppoll")(errno)),
        }
    }
}

fn failed(step: &'static str) -> impl Fn(Errno) -> GenerateError {
    move |errno| GenerateError::System { step, source: errno.into() }
}

const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Events fetched at once.
const EVENTS: usize = 64;
