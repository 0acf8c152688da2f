//! Repeated samples of the connections of one thread that wait to be accepted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::diag::{DiagSocket, SocketSample};
use super::observation::{Bracket, Observation, WaitHistory};

/// Samples waiting connections until each is accepted, closed or vanished.
///
/// A new connection is sampled in every pass, an older one at intervals of 1/64 of its age (or of
/// what [`Patience`] asks for): the
/// bracket around its accept stays a small fraction of the delay it measures, while ten thousand
/// waiting connections cost no more than the budget that each pass is given. A sample takes 1 to
/// 4 µs depending on the machine.
#[derive(Debug)]
pub struct DiagWatch<S = DiagSocket> {
    sampler: S,
    /// By key.
    waiting: Box<[Option<WaitingConnection>]>,
    count: u32,
    /// Which connection is sampled when. An entry whose serial number is not that of its
    /// connection is stale.
    due: BinaryHeap<Reverse<DueSample>>,
    serial: u32,
    missed: u64,
    patience: Patience,
}

/// How often a waiting connection is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A connection that is older is sampled at this interval at least.
    young_ns: u64,
    interval_min_ns: u64,
}

impl Patience {
    /// The thread that samples has a CPU of its own: as often as it can.
    pub const OWN_CPU: Self = Self { young_ns: u64::MAX, interval_min_ns: 1 };
    /// The server may want the CPU: only as often as it pays to sleep in between.
    pub const SHARED_CPU: Self = Self { young_ns: 250_000, interval_min_ns: 60_000 };

    /// The interval until the next sample of a connection of this age: at least 1 ns, so that it is
    /// never sampled twice in a pass.
    fn interval_ns(self, age_ns: u64) -> u64 {
        let least_ns = if age_ns > self.young_ns { self.interval_min_ns } else { 1 };
        (age_ns / AGE_PER_INTERVAL).max(least_ns)
    }
}

impl DiagWatch {
    /// For keys below `connections`; all memory is allocated now.
    ///
    /// # Errors
    /// As [`DiagSocket::open`].
    pub fn open(connections: u32, patience: Patience) -> io::Result<Self> {
        Ok(Self::with_sampler(DiagSocket::open()?, connections, patience))
    }
}

impl<S: SocketSampler> DiagWatch<S> {
    /// As [`open`](DiagWatch::open), with samples from `sampler`.
    pub fn with_sampler(sampler: S, connections: u32, patience: Patience) -> Self {
        let keys = connections as usize;
        Self {
            sampler,
            waiting: vec![None; keys].into_boxed_slice(),
            count: 0,
            due: BinaryHeap::with_capacity(keys.saturating_mul(2).max(1)),
            serial: 0,
            missed: 0,
            patience,
        }
    }

    /// Begins to watch a connection, once the client's socket has an address. `server` and `client`
    /// are its addresses as the client sees them (`getpeername`, `getsockname`), `since_ns` is an
    /// instant at which it was not accepted yet: when connect was called, or later. A key that is
    /// watched already is replaced.
    ///
    /// # Panics
    /// If `key` is not below the number of connections given to [`open`](DiagWatch::open).
    pub fn add(&mut self, key: u32, server: SocketAddr, client: SocketAddr, since_ns: u64) {
        self.insert(key, server, client, since_ns, WaitHistory::new(since_ns));
    }

    /// As [`add`](Self::add), of a connection that was in the accept queue at `since_ns`: if the
    /// first sample does not find it any more, it was accepted and closed in between.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_queued(&mut self, key: u32, server: SocketAddr, client: SocketAddr, since_ns: u64) {
        self.insert(key, server, client, since_ns, WaitHistory::queued(since_ns));
    }

    fn insert(
        &mut self,
        key: u32,
        server: SocketAddr,
        client: SocketAddr,
        since_ns: u64,
        history: WaitHistory,
    ) {
        self.remove(key);
        self.drop_stale_entries();
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        self.waiting[key as usize] =
            Some(WaitingConnection { server, client, since_ns, serial, history });
        self.count += 1;
        // Due since `since_ns`: before every connection that was sampled already.
        self.due.push(Reverse(DueSample { at_ns: since_ns, key, serial }));
    }

    /// Stops watching a connection; no observation of it follows. Does nothing for a key that is
    /// not watched.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn remove(&mut self, key: u32) {
        if self.waiting[key as usize].take().is_some() {
            self.count -= 1;
        }
    }

    /// Stops watching a connection whose server has answered at `answered_ns`, so that it was
    /// accepted before. Returns where the accept lies; `None` for a key that is not watched.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn answered(&mut self, key: u32, answered_ns: u64) -> Option<Bracket> {
        let connection = self.waiting[key as usize]?;
        self.remove(key);
        Some(connection.history.accepted_by(answered_ns))
    }

    /// Samples each connection that is due at `now_ns` once, the longest overdue first, at most
    /// `budget` of them. A connection that no longer waits is passed to `observe` and not watched
    /// any more. Returns the number of samples taken. A sample that the kernel has no memory for
    /// ends the pass and is repeated in the next: the bracket around that accept gets wider.
    ///
    /// `now_ns` is read from the monotonic clock immediately before the call.
    ///
    /// # Errors
    /// An error that a repetition would not avoid; its connection stays watched.
    pub fn pass(
        &mut self,
        now_ns: u64,
        budget: u32,
        observe: &mut impl FnMut(Observation),
    ) -> io::Result<u32> {
        let mut before_ns = now_ns;
        for samples in 0..budget {
            let Some(due) = self.pop_due(now_ns) else { return Ok(samples) };
            match self.sample(due, before_ns, observe) {
                Ok(after_ns) => before_ns = after_ns,
                Err(error) => return self.count_missed(error).map(|()| samples),
            }
        }
        Ok(budget)
    }

    /// When the next sample is due, monotonic nanoseconds; in the past if a budget ran out.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        self.due.peek().map(|Reverse(due)| due.at_ns)
    }

    /// Samples a connection that cannot exist, so that the kernel's code and data for the next
    /// sample are in the caches: the first sample after a pause takes five times as long as the
    /// second.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub fn prewarm(&mut self, server: SocketAddr) -> io::Result<()> {
        let sampled = self.sampler.sample(server, server).map(drop);
        sampled.or_else(|error| if passes(&error) { Ok(()) } else { Err(error) })
    }

    /// How many samples the kernel had no memory for since the last call.
    pub fn take_missed(&mut self) -> u64 {
        mem::take(&mut self.missed)
    }

    /// How many connections are watched.
    #[must_use]
    pub fn watched(&self) -> u32 {
        self.count
    }

    /// Counts a sample that may succeed when it is repeated; any other error is returned.
    fn count_missed(&mut self, error: io::Error) -> io::Result<()> {
        if !passes(&error) {
            return Err(error);
        }
        self.missed += 1;
        Ok(())
    }

    fn pop_due(&mut self, now_ns: u64) -> Option<DueSample> {
        while let Some(&Reverse(due)) = self.due.peek() {
            if due.at_ns > now_ns {
                return None;
            }
            self.due.pop();
            if is_current(&self.waiting, due) {
                return Some(due);
            }
        }
        None
    }

    /// Takes one sample. Returns the instant after it, which is the instant before the next.
    fn sample(
        &mut self,
        due: DueSample,
        before_ns: u64,
        observe: &mut impl FnMut(Observation),
    ) -> io::Result<u64> {
        let Some(connection) = &mut self.waiting[due.key as usize] else { return Ok(before_ns) };
        let sample = match self.sampler.sample(connection.server, connection.client) {
            Ok(sample) => sample,
            Err(error) => {
                self.due.push(Reverse(due));
                return Err(error);
            }
        };
        let after_ns = self.sampler.sampled_ns();
        if let Some((kind, bracket)) = connection.history.classify(sample, before_ns, after_ns) {
            let since_ns = connection.since_ns;
            self.remove(due.key);
            observe(Observation { key: due.key, since_ns, bracket, kind });
            return Ok(after_ns);
        }
        let age_ns = after_ns.saturating_sub(connection.since_ns);
        let at_ns = after_ns + self.patience.interval_ns(age_ns);
        self.due.push(Reverse(DueSample { at_ns, ..due }));
        Ok(after_ns)
    }

    /// [`pop_due`](Self::pop_due) drops a stale entry once it is due; this bounds the heap for a
    /// caller that adds and removes connections without a pass between.
    fn drop_stale_entries(&mut self) {
        if self.due.len() == self.due.capacity() {
            let waiting = &self.waiting;
            self.due.retain(|Reverse(due)| is_current(waiting, *due));
        }
    }
}

/// Where a [`DiagWatch`] takes its samples from.
pub trait SocketSampler {
    /// Samples the server's end of a connection once.
    ///
    /// # Errors
    /// As [`DiagSocket::sample`].
    fn sample(&mut self, server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample>;

    /// When the last sample was taken, monotonic nanoseconds.
    fn sampled_ns(&self) -> u64;
}

impl SocketSampler for DiagSocket {
    fn sample(&mut self, server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
        Self::sample(self, server, client)
    }

    fn sampled_ns(&self) -> u64 {
        Self::sampled_ns(self)
    }
}

/// A connection that is being watched.
#[derive(Clone, Copy, Debug)]
struct WaitingConnection {
    server: SocketAddr,
    client: SocketAddr,
    since_ns: u64,
    serial: u32,
    history: WaitHistory,
}

/// When a connection is sampled next; ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DueSample {
    at_ns: u64,
    key: u32,
    serial: u32,
}

/// Whether a sample may succeed when it is repeated.
fn passes(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM))
}

fn is_current(waiting: &[Option<WaitingConnection>], due: DueSample) -> bool {
    waiting[due.key as usize].is_some_and(|connection| connection.serial == due.serial)
}

/// The interval between two samples is the connection's age divided by this.
const AGE_PER_INTERVAL: u64 = 64;

#[cfg(test)]
mod tests;
