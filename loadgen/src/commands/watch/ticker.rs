//! The loop of a watch: sleep, sample, and once a second look around and print a line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rustix::time::{ClockId, clock_gettime};
use uring_echo::clock::monotonic_ns;

use super::WatchError;
use super::audience::Audience;
use super::kernel::{Kernel, Live};
use super::neighbours::Neighbours;
use super::recorder::Recorder;
use super::sampled::{BUDGET, BUDGET_BY_NAME, Sampled};
use super::telling::{Mode, Seen};
use super::traced::Traced;
use crate::analyse::queue_waits::Wait;
use crate::cli::watch::{ModeChoice, WatchArgs};
use crate::model::watch_live::WatchSecond;
use crate::observe::{Looks, ProcListeners};
use crate::sys::namespaces::Network;
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// A watch that has ended.
pub(super) struct Watched {
    pub(super) seen: Seen,
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
    pub(super) pauses: u64,
}

/// Whether the address has listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    There,
    AbsentSince(u64),
}

struct Ticker<K> {
    kernel: K,
    network: Option<Network>,
    server: SocketAddr,
    mode: ModeChoice,
    cpu_before_ns: u64,
    opened: u64,
    opens_read_ns: u64,
    ticked_ns: u64,
    seen: Seen,
    presence: Presence,
    busy: bool,
}

/// An idle queue needs no count of arrivals but for the rate.
const COUNT_EVERY_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Between two searches for a listener that is gone.
const SEARCH_EVERY_NS: u64 = 10_000_000;
/// A sample that comes later than this after the one before tells nothing of the time between: the
/// machine was suspended, or the watcher was stopped.
const PAUSE_NS: u64 = 2 * SECOND_NS;
/// A sample of `/proc/PID/net` takes milliseconds.
const SHOWN_EVERY_NS: u64 = 100_000_000;

/// Where the watched address is.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The network namespace, where it was named.
    pub(super) network: Option<Network>,
    /// The folder that shows it, where it may not be entered or its sockets cannot be asked for.
    pub(super) shown_in: Option<PathBuf>,
}

/// Watches until the duration asked for is over or a signal comes.
pub(super) fn watch(
    server: SocketAddr,
    place: Place,
    args: &WatchArgs,
    stop: &StopFlag,
    audience: &mut Audience,
) -> Result<Watched, WatchError> {
    let interval_ns = nanos(args.interval);
    if let Some(folder) = &place.shown_in {
        let listeners = ProcListeners::open(folder, server).map_err(WatchError::Shown)?;
        let interval_ns = interval_ns.max(SHOWN_EVERY_NS);
        let mut ticker = Ticker::open(listeners, server, interval_ns, args.mode)?;
        ticker.network = place.network;
        return Ok(ticker.run(args.duration, stop, audience));
    }
    let mut ticker = Ticker::open(Live::open(server)?, server, interval_ns, args.mode)?;
    ticker.network = place.network;
    ticker.seen.neighbours = Some(Neighbours::open(server).map_err(WatchError::SocketTable)?);
    ticker.open_trace()?;
    Ok(ticker.run(args.duration, stop, audience))
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

impl<K: Kernel> Ticker<K> {
    fn run(
        mut self,
        duration: Option<Duration>,
        stop: &StopFlag,
        audience: &mut Audience,
    ) -> Watched {
        let interval_ns = self.seen.interval_ns;
        let mut random = Pcg64::seed_from_u64(monotonic_ns());
        let began = monotonic_ns();
        let end = duration.map_or(u64::MAX, |length| began.saturating_add(nanos(length)));
        let (mut wanted, mut second) = (began, began);
        let mut problem = None;
        while !stop.is_set() && wanted < end {
            let mut seen = self.tick(wanted);
            let now = monotonic_ns();
            if now >= second + SECOND_NS {
                seen = seen.and_then(|()| self.second(began, second, now, audience));
                second = now;
            }
            if let Err(error) = seen {
                problem = Some(format!("the watch ended early: {error}"));
                break;
            }
            // Jittered, so that what a server does at even times is not always met in one phase.
            let jittered = interval_ns * 3 / 4 + random.random_range(0..=interval_ns / 2);
            wanted = wanted.max(now) + jittered;
            sleep_until(wanted.min(end));
        }
        let now = monotonic_ns();
        if problem.is_none() {
            let last = self.tick(now).and_then(|()| self.second(began, second, now, audience));
            problem = last.err().map(|error| format!("the last sample: {error}"));
        }
        self.seen.pace.cpu_ns = cpu_ns().saturating_sub(self.cpu_before_ns);
        let stopped = stop.is_set();
        Watched { seen: self.seen, length_ns: now - began, stopped, problem }
    }

    fn open(
        mut kernel: K,
        server: SocketAddr,
        interval_ns: u64,
        mode: ModeChoice,
    ) -> Result<Self, WatchError> {
        let mut recorder = Recorder::new(interval_ns);
        recorder.members_are(kernel.listeners());
        let opened = kernel.opened().map_err(WatchError::Counters)?;
        let now = kernel.now_ns();
        let seen = Seen {
            interval_ns,
            recorder,
            neighbours: None,
            traced: None,
            trace_refused: None,
            sampled: None,
            pace: Pace::default(),
        };
        Ok(Self {
            kernel,
            network: None,
            server,
            mode,
            cpu_before_ns: cpu_ns(),
            opened,
            opens_read_ns: now,
            ticked_ns: now,
            seen,
            presence: Presence::There,
            busy: true,
        })
    }

    /// Where the mode wants the tracepoint. That it is not permitted is an error only where it was
    /// asked for by name.
    fn open_trace(&mut self) -> Result<(), WatchError> {
        if !matches!(self.mode, ModeChoice::Auto | ModeChoice::Trace) {
            return Ok(());
        }
        match Traced::open(self.server, self.opened) {
            Ok(traced) => self.seen.traced = Some(traced),
            Err(error) if self.mode == ModeChoice::Trace => return Err(error.into()),
            Err(error) => self.seen.trace_refused = Some(error.to_string()),
        }
        Ok(())
    }

    /// A sample that was wanted at `wanted_ns`.
    fn tick(&mut self, wanted_ns: u64) -> io::Result<()> {
        let now = self.kernel.now_ns();
        let pace = &mut self.seen.pace;
        pace.ticks += 1;
        pace.late += u64::from(now.saturating_sub(wanted_ns) > self.seen.interval_ns / 2);
        if now.saturating_sub(self.ticked_ns) > PAUSE_NS.max(20 * self.seen.interval_ns) {
            self.looked_away()?;
        }
        self.ticked_ns = now;
        self.seen.neighbours.as_mut().map_or(Ok(()), Neighbours::tick)?;
        if let Presence::AbsentSince(since) = self.presence {
            return self.search(since, now);
        }
        match self.kernel.sample() {
            Ok(Looks::Whole) => self.count(now),
            Ok(Looks::Changed) => self.changed(now),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What came and went since the last sample is not known.
    fn looked_away(&mut self) -> io::Result<()> {
        self.seen.pace.pauses += 1;
        self.seen.recorder.looked_away();
        self.opened = self.kernel.opened()?;
        if let Some(traced) = &mut self.seen.traced {
            traced.read(self.kernel.now_ns());
        }
        self.busy = true;
        Ok(())
    }

    /// The counter is read before the depth that goes with it. Of a queue that was empty and is, it
    /// is needed now and then only: whoever came has left.
    fn count(&mut self, now: u64) -> io::Result<()> {
        let waiting = self.kernel.listeners().any(|listener| listener.depth > 0);
        let mut arrived = 0;
        if waiting || self.busy || now.saturating_sub(self.opens_read_ns) >= COUNT_EVERY_NS {
            let opened = self.kernel.opened()?;
            arrived = opened_since(self.opened, opened);
            (self.opened, self.opens_read_ns) = (opened, now);
            match self.kernel.sample() {
                Ok(Looks::Whole) => {}
                Ok(Looks::Changed) => return self.changed(now),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.busy = waiting;
        self.record(arrived, waiting)
    }

    fn record(&mut self, arrived: u64, waiting: bool) -> io::Result<()> {
        let sampled_ns = self.kernel.now_ns();
        let Seen { recorder, traced, sampled, interval_ns, .. } = &mut self.seen;
        let timed = traced.as_mut().map(|traced| {
            traced.read(sampled_ns);
            traced.arrivals()
        });
        recorder.sample(sampled_ns, self.kernel.listeners(), arrived, timed);
        if let Some(traced) = traced
            && recorder.is_group()
        {
            traced.follow(sampled_ns, |waited_ns| recorder.traced(waited_ns))?;
        }
        if let Some(sampled) = sampled {
            let least = Mode::Sampled.resolution_ns(*interval_ns);
            sampled.tick(sampled_ns, waiting, |waited_ns, stands_for| {
                if waited_ns >= least {
                    recorder.dumps.add(Wait::Took(waited_ns), stands_for);
                }
            })?;
        }
        Ok(())
    }

    /// Another set of listeners, or none: a restart, or one more worker.
    fn changed(&mut self, now: u64) -> io::Result<()> {
        self.seen.pace.restarts += 1;
        match self.kernel.find() {
            Ok(()) => {
                self.seen.recorder.members_are(self.kernel.listeners());
                self.presence = Presence::There;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.seen.recorder.members_are(std::iter::empty());
                self.presence = Presence::AbsentSince(now);
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        self.opened = self.kernel.opened()?;
        self.busy = true;
        Ok(())
    }

    fn search(&mut self, since: u64, now: u64) -> io::Result<()> {
        if now.saturating_sub(self.opens_read_ns) < SEARCH_EVERY_NS {
            return Ok(());
        }
        self.opens_read_ns = now;
        match self.kernel.find() {
            Ok(()) => {
                self.seen.pace.absent_ns += now.saturating_sub(since);
                self.presence = Presence::There;
                self.seen.recorder.members_are(self.kernel.listeners());
                self.opened = self.kernel.opened()?;
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
        self.seen.neighbours.as_mut().map_or(Ok(()), Neighbours::second)?;
        if self.presence == Presence::There && !self.kernel.unchanged()? {
            self.changed(now)?;
        }
        if let Presence::AbsentSince(since) = self.presence {
            self.seen.pace.absent_ns += now.saturating_sub(since);
            self.presence = Presence::AbsentSince(now);
            self.still_somewhere()?;
        }
        self.look_after_modes()?;
        self.seen.pace.cpu_ns = cpu_ns().saturating_sub(self.cpu_before_ns);
        self.tell(second - began, now - second, audience);
        self.seen.recorder.roll(second - began, now - second);
        Ok(())
    }

    /// Nobody listens. In a namespace that nothing names any more nobody will again.
    fn still_somewhere(&self) -> io::Result<()> {
        match &self.network {
            Some(network) if !network.is_still_named() => Err(io::Error::other(format!(
                "nobody listens any more, and {} does not name the network namespace any more: \
                 its processes have ended",
                network.path().display()
            ))),
            _ => Ok(()),
        }
    }

    /// Dumps are taken once no better mode is true.
    fn look_after_modes(&mut self) -> io::Result<()> {
        if let Some(traced) = &mut self.seen.traced {
            traced.second(self.kernel.opened()?)?;
        }
        if let Some(sampled) = &mut self.seen.sampled {
            return sampled.second();
        }
        let wanted = match self.mode {
            ModeChoice::Sampled => true,
            ModeChoice::Auto | ModeChoice::Trace => {
                let traced = self.seen.traced.is_some() && self.seen.trace_refused().is_none();
                !traced && self.seen.crowded().is_some()
            }
            ModeChoice::Fifo | ModeChoice::Depth => false,
        };
        // Without neighbours to know of, sockets cannot be asked for at all.
        if wanted && self.presence == Presence::There && self.seen.neighbours.is_some() {
            let by_name = self.mode == ModeChoice::Sampled;
            let budget = if by_name { BUDGET_BY_NAME } else { BUDGET };
            self.seen.sampled = Some(Sampled::open(self.server, budget)?);
        }
        Ok(())
    }

    /// Tells of the second that began at `start_ns` of the watch, before its waits are put away.
    fn tell(&self, start_ns: u64, length_ns: u64, audience: &mut Audience) {
        let Seen { recorder, pace, interval_ns, .. } = &self.seen;
        let telling = self.seen.telling(self.mode);
        let sums = recorder.sums();
        audience.second(&WatchSecond {
            at_ns: start_ns + length_ns,
            length_ns,
            mode: telling.mode.name(),
            mode_reason: telling.reason.as_deref(),
            resolution_ns: telling.mode.resolution_ns(*interval_ns),
            waits: &telling.series.current,
            unseen: if telling.with_unseen { recorder.unseen() } else { 0 },
            mean_wait_ns: telling.mean_ns,
            accepts: telling.accepts,
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

/// Connections between two readings of the counter, which wraps around at 32 bits where a long has
/// so many.
#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
fn opened_since(before: u64, now: u64) -> u64 {
    let wrapped = || u64::from((now as u32).wrapping_sub(before as u32));
    now.checked_sub(before).unwrap_or_else(wrapped)
}

/// The kernel was short of memory, or was interrupted: the next sample may succeed.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let transient = [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM, Errno::INTR];
    error.raw_os_error().is_some_and(|raw| transient.iter().any(|e| e.raw_os_error() == raw))
}

#[cfg(test)]
mod tests;
