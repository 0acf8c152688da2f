//! The loop of a watch: sleep, sample, and once a second look around and print a line.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rustix::time::{ClockId, clock_gettime};
use uring_echo::clock::monotonic_ns;

use super::WatchError;
use super::audience::Audience;
use super::conclusion::mode_told;
use super::neighbours::Neighbours;
use super::recorder::Recorder;
use crate::analyse::queue_waits::{QueueWaits, mean_wait_ns};
use crate::cli::watch::{ModeChoice, WatchArgs};
use crate::model::watch_live::WatchSecond;
use crate::observe::{ListenerLooks, Looks, PassiveOpens};
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// A watch that has ended.
pub(super) struct Watched {
    pub(super) recorder: Recorder,
    pub(super) neighbours: Neighbours,
    pub(super) pace: Pace,
    pub(super) length_ns: u64,
    /// A signal ended it.
    pub(super) stopped: bool,
    /// What ended it otherwise.
    pub(super) problem: Option<String>,
}

/// How the watcher itself did.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    pub(super) ticks: u64,
    pub(super) late: u64,
    pub(super) cpu_ns: u64,
    pub(super) restarts: u64,
    pub(super) absent_ns: u64,
}

/// Whether the address has listeners.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    AbsentSince(u64),
}

struct Ticker {
    interval_ns: u64,
    mode: ModeChoice,
    cpu_before_ns: u64,
    looks: ListenerLooks,
    opens: PassiveOpens,
    opened: u64,
    opens_read_ns: u64,
    recorder: Recorder,
    neighbours: Neighbours,
    pace: Pace,
    presence: Presence,
    busy: bool,
}

/// An idle queue needs no count of arrivals but for the rate.
const COUNT_EVERY_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Between two searches for a listener that is gone.
const SEARCH_EVERY_NS: u64 = 10_000_000;

/// Watches until the duration asked for is over or a signal comes.
pub(super) fn watch(
    server: SocketAddr,
    args: &WatchArgs,
    stop: &StopFlag,
    audience: &mut Audience,
) -> Result<Watched, WatchError> {
    let interval_ns = nanos(args.interval);
    let mut ticker = Ticker::open(server, interval_ns, args.mode)?;
    let mut random = Pcg64::seed_from_u64(monotonic_ns());
    let began = monotonic_ns();
    let end = args.duration.map_or(u64::MAX, |length| began.saturating_add(nanos(length)));
    let (mut wanted, mut second) = (began, began);
    let mut problem = None;
    while !stop.is_set() && wanted < end {
        let tick = ticker.tick(wanted);
        let now = monotonic_ns();
        let mut seen = tick;
        if now >= second + SECOND_NS {
            seen = seen.and_then(|()| ticker.second(began, second, now, audience));
            second = now;
        }
        if let Err(error) = seen {
            problem = Some(format!("the watch ended early: {error}"));
            break;
        }
        // Jittered, so that what a server does at even times is not always met in one phase.
        wanted = wanted.max(now) + interval_ns * 3 / 4 + random.random_range(0..=interval_ns / 2);
        sleep_until(wanted.min(end));
    }
    let now = monotonic_ns();
    if problem.is_none() {
        let last = ticker.tick(now).and_then(|()| ticker.second(began, second, now, audience));
        problem = last.err().map(|error| format!("the last sample: {error}"));
    }
    ticker.pace.cpu_ns = cpu_ns().saturating_sub(ticker.cpu_before_ns);
    let Ticker { recorder, neighbours, pace, .. } = ticker;
    let stopped = stop.is_set();
    Ok(Watched { recorder, neighbours, pace, length_ns: now - began, stopped, problem })
}

fn sleep_until(wanted_ns: u64) {
    let left_ns = wanted_ns.saturating_sub(monotonic_ns());
    if left_ns > 0 {
        thread::sleep(Duration::from_nanos(left_ns));
    }
}

/// CPU time of this process.
fn cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * SECOND_NS + u64::try_from(used.tv_nsec).unwrap_or(0)
}

impl Ticker {
    fn open(server: SocketAddr, interval_ns: u64, mode: ModeChoice) -> Result<Self, WatchError> {
        let looks = ListenerLooks::open(server).map_err(WatchError::SocketTable)?;
        let mut opens = PassiveOpens::open().map_err(WatchError::Counters)?;
        let neighbours = Neighbours::open(server).map_err(WatchError::SocketTable)?;
        let mut recorder = Recorder::new(interval_ns);
        recorder.members_are(looks.members());
        Ok(Self {
            interval_ns,
            mode,
            cpu_before_ns: cpu_ns(),
            looks,
            opened: opens.read().map_err(WatchError::Counters)?,
            opens,
            opens_read_ns: monotonic_ns(),
            recorder,
            neighbours,
            pace: Pace::default(),
            presence: Presence::There,
            busy: true,
        })
    }

    /// A sample that was wanted at `wanted_ns`.
    fn tick(&mut self, wanted_ns: u64) -> io::Result<()> {
        let now = monotonic_ns();
        self.pace.ticks += 1;
        self.pace.late += u64::from(now.saturating_sub(wanted_ns) > self.interval_ns / 2);
        self.neighbours.tick()?;
        if let Presence::AbsentSince(since) = self.presence {
            return self.search(since, now);
        }
        match self.looks.sample() {
            Ok(Looks::Whole) => self.count(now),
            Ok(Looks::Changed) => self.changed(now),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The counter is read before the depth that goes with it. Of a queue that was empty and is, it
    /// is needed now and then only: whoever came has left.
    fn count(&mut self, now: u64) -> io::Result<()> {
        let waiting = self.looks.members().any(|member| member.depth > 0);
        let mut arrived = 0;
        if waiting || self.busy || now.saturating_sub(self.opens_read_ns) >= COUNT_EVERY_NS {
            let opened = self.opens.read()?;
            arrived = opened.wrapping_sub(self.opened);
            (self.opened, self.opens_read_ns) = (opened, now);
            match self.looks.sample() {
                Ok(Looks::Whole) => {}
                Ok(Looks::Changed) => return self.changed(now),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.busy = waiting;
        self.recorder.sample(monotonic_ns(), self.looks.members(), arrived);
        Ok(())
    }

    /// Another set of listeners, or none: a restart, or one more worker.
    fn changed(&mut self, now: u64) -> io::Result<()> {
        self.pace.restarts += 1;
        match self.looks.find() {
            Ok(()) => {
                self.recorder.members_are(self.looks.members());
                self.presence = Presence::There;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.recorder.members_are(std::iter::empty());
                self.presence = Presence::AbsentSince(now);
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        self.opened = self.opens.read()?;
        self.busy = true;
        Ok(())
    }

    fn search(&mut self, since: u64, now: u64) -> io::Result<()> {
        if now.saturating_sub(self.opens_read_ns) < SEARCH_EVERY_NS {
            return Ok(());
        }
        self.opens_read_ns = now;
        match self.looks.find() {
            Ok(()) => {
                self.pace.absent_ns += now.saturating_sub(since);
                self.presence = Presence::There;
                self.recorder.members_are(self.looks.members());
                self.opened = self.opens.read()?;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn second(
        &mut self,
        began: u64,
        second: u64,
        now: u64,
        audience: &mut Audience,
    ) -> io::Result<()> {
        self.neighbours.second()?;
        if self.presence == Presence::There && !self.looks.unchanged()? {
            self.changed(now)?;
        }
        if let Presence::AbsentSince(since) = self.presence {
            self.pace.absent_ns += now.saturating_sub(since);
            self.presence = Presence::AbsentSince(now);
        }
        self.pace.cpu_ns = cpu_ns().saturating_sub(self.cpu_before_ns);
        self.tell(second - began, now - second, audience);
        self.recorder.roll(second - began, now - second);
        Ok(())
    }

    /// Tells of the second that began at `start_ns` of the watch, before its waits are put away.
    fn tell(&self, start_ns: u64, length_ns: u64, audience: &mut Audience) {
        let Self { recorder, neighbours, pace, .. } = self;
        let (fifo, reason) = mode_told(recorder, neighbours, self.mode);
        let exclusive = fifo || neighbours.busy().is_none();
        let sums = recorder.sums();
        let arrived = recorder.arrived.max(sums.arrived);
        let series = if fifo { &recorder.fifo } else { &recorder.depth };
        let unseen = if exclusive && !fifo { recorder.unseen() } else { 0 };
        audience.second(&WatchSecond {
            at_ns: start_ns + length_ns,
            length_ns,
            mode: if fifo { "fifo" } else { "depth" },
            mode_reason: reason.as_deref(),
            resolution_ns: QueueWaits::resolution_ns(self.interval_ns),
            waits: &series.current,
            unseen,
            mean_wait_ns: mean_wait_ns(sums.depth_time, arrived).filter(|_| exclusive),
            accepts: if fifo { recorder.fifo_accepts() } else { sums.left },
            depth_time_ns: sums.depth_time,
            depth_max: recorder.depth_max,
            drops: sums.drops,
            ticks: pace.ticks,
            late_ticks: pace.late,
            cpu_ns: pace.cpu_ns,
            restarts: pace.restarts,
            listeners: &recorder.listeners(recorder.sampled_ns),
        });
    }
}

/// The kernel was short of memory, or was interrupted: the next sample may succeed.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let transient = [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM, Errno::INTR];
    error.raw_os_error().is_some_and(|raw| transient.iter().any(|e| e.raw_os_error() == raw))
}
