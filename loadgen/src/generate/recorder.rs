//! What one run measured: outcomes and histograms, per thread and merged.
//!
//! A [`Recorder`] belongs to one generator thread and never allocates. Once per second the thread
//! swaps its filled [`Recording`] for an empty one ([`Recorder::take_interval`]) and sends it to
//! the main thread, which adds it to the totals and returns it cleared.

use hdrhistogram::Histogram;

use crate::model::evidence::{RetransmissionSchedule, Unaccepted};
use crate::model::histogram::{HIGHEST_NS, LOWEST_NS, new_histogram};
use crate::model::outcome::{Outcome, Phase};
use crate::observe::OffsetBounds;

/// One thread's measurements since the last [`Recorder::take_interval`].
#[derive(Debug)]
pub struct Recorder {
    current: Recording,
}

impl Recorder {
    /// Starts with the interval of number 0, which begins with the run.
    pub fn new() -> Self {
        Self { current: Recording::new() }
    }

    /// One arrival of the schedule, whatever becomes of it. Exactly one [`Self::outcome`] follows.
    pub fn attempt(&mut self) {
        self.current.counts.attempted += 1;
    }

    /// Arrivals of the schedule that were not begun in time: attempts with that outcome.
    pub fn not_begun(&mut self, count: u64) {
        self.current.counts.attempted += count;
        self.current.counts.outcomes[Outcome::NotBegun as usize] += count;
    }

    /// Arrivals that belong to the warm-up: they are recorded nowhere else.
    pub fn warmup_excluded(&mut self, count: u64) {
        self.current.counts.warmup_excluded += count;
    }

    /// connect is about to enter the kernel at `called_ns`, wanted at `intended_ns` (both from the
    /// start of the run). Records [`Phase::GeneratorLag`].
    pub fn connect_called(&mut self, intended_ns: u64, called_ns: u64) {
        let counts = &mut self.current.counts;
        counts.last_intended_ns = counts.last_intended_ns.max(intended_ns);
        counts.last_called_ns = counts.last_called_ns.max(called_ns);
        self.record(Phase::GeneratorLag, called_ns.saturating_sub(intended_ns));
    }

    /// Adds a sample. Zero becomes 1 ns; above [`HIGHEST_NS`] it is clipped and counted.
    pub fn record(&mut self, phase: Phase, ns: u64) {
        if ns > HIGHEST_NS {
            self.current.counts.clipped += 1;
        }
        let value = ns.clamp(LOWEST_NS, HIGHEST_NS);
        self.current.histograms[phase as usize].saturating_record(value);
    }

    /// How an attempt ended, with the error number where a system call said one.
    pub fn outcome(&mut self, outcome: Outcome, errno: Option<i32>) {
        self.current.counts.outcomes[outcome as usize] += 1;
        if let Some(errno) = errno {
            self.current.errnos.add(outcome, errno, 1);
        }
    }

    /// The accept was seen before connect returned: [`Phase::PostConnectWait`] has no sample.
    pub fn accepted_before_return(&mut self) {
        self.current.counts.accepted_before_return += 1;
    }

    /// The accept was seen, but not whether it came before connect returned or after it.
    pub fn accept_order_undetermined(&mut self) {
        self.current.counts.accept_order_undetermined += 1;
    }

    /// An attempt that may have been accepted ended without an observed accept.
    pub fn not_observed(&mut self) {
        self.current.counts.not_observed += 1;
    }

    /// A wait that had not ended: it lasted at least this long, counted from the intended instant.
    /// Enters [`Phase::AcceptResponse`].
    pub fn censored(&mut self, at_least_ns: u64) {
        self.current.counts.censored += 1;
        self.record(Phase::AcceptResponse, at_least_ns);
    }

    /// Samples that lie where the kernel retransmits, of a connection on which it did.
    pub fn retransmitted(&mut self, schedule: RetransmissionSchedule) {
        let counts = &mut self.current.counts;
        counts.retransmitted = counts.retransmitted.merged(schedule);
    }

    /// What the server's end showed of connections that were never accepted.
    pub fn unaccepted(&mut self, unaccepted: Unaccepted) {
        self.current.counts.unaccepted = self.current.counts.unaccepted.merged(unaccepted);
    }

    /// Looks at waiting connections that the kernel did not answer.
    pub fn samples_missed(&mut self, count: u64) {
        self.current.counts.samples_missed += count;
    }

    /// A time in which the generator kept its CPU from somebody.
    pub fn cpu_held(&mut self, ns: u64) {
        self.current.counts.cpu_held_ns += ns;
    }

    /// Bytes of messages that went out.
    pub fn bytes_sent(&mut self, bytes: u64) {
        self.current.counts.bytes_sent += bytes;
    }

    /// Bytes of echoes that came back.
    pub fn bytes_received(&mut self, bytes: u64) {
        self.current.counts.bytes_received += bytes;
    }

    /// Ends the interval at `now_ns` from the start of the run and goes on with `into`, which must
    /// be clear. The next one begins where this one ends.
    pub fn take_interval(&mut self, now_ns: u64, into: Recording) -> Recording {
        debug_assert!(into.is_clear(), "a recycled interval is cleared first");
        let mut done = std::mem::replace(&mut self.current, into);
        done.end_ns = now_ns;
        self.current.start_ns = now_ns;
        self.current.index = done.index + 1;
        done
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters and histograms of one thread over one stretch of time (about 2 MB).
#[derive(Debug, Clone)]
pub struct Recording {
    /// Number of the interval, from 0; the same on every thread.
    pub index: u64,
    /// Begin, nanoseconds from the start of the run.
    pub start_ns: u64,
    /// End, nanoseconds from the start of the run.
    pub end_ns: u64,
    /// No interval of this thread follows.
    pub last: bool,
    /// Where the server's clock lies as far as this thread knows, if it is another one.
    pub clock: Option<OffsetBounds>,
    counts: Counts,
    errnos: ErrnoCounts,
    histograms: Vec<Histogram<u64>>,
}

impl Recording {
    /// An empty interval whose memory has been touched, so that recording takes no page fault.
    pub fn new() -> Self {
        let mut histograms: Vec<_> = Phase::ALL.iter().map(|_| new_histogram()).collect();
        histograms.iter_mut().for_each(Histogram::reset);
        Self {
            index: 0,
            start_ns: 0,
            end_ns: 0,
            last: false,
            clock: None,
            counts: Counts::default(),
            errnos: ErrnoCounts::new(),
            histograms,
        }
    }

    /// Empties it for reuse.
    pub fn clear(&mut self) {
        // Most phases of most runs are empty, and clearing one writes a quarter of a megabyte.
        self.histograms.iter_mut().filter(|h| !h.is_empty()).for_each(Histogram::reset);
        self.errnos.clear();
        (self.index, self.start_ns, self.end_ns, self.last) = (0, 0, 0, false);
        self.clock = None;
        self.counts = Counts::default();
    }

    /// Adds what another thread recorded, or another interval; the span grows to hold both.
    pub fn add(&mut self, other: &Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        self.counts.add(&other.counts);
        self.errnos.add_all(&other.errnos);
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            if !theirs.is_empty() {
                mine.add(theirs).expect("all histograms have the same bounds");
            }
        }
    }

    /// The samples of a phase.
    pub fn histogram(&self, phase: Phase) -> &Histogram<u64> {
        &self.histograms[phase as usize]
    }

    /// Everything counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Error numbers seen.
    pub fn errnos(&self) -> &ErrnoCounts {
        &self.errnos
    }

    fn is_clear(&self) -> bool {
        self.counts == Counts::default() && self.histograms.iter().all(Histogram::is_empty)
    }
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

/// Plain counters. All but the two instants add up over threads and intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrivals outside the warm-up.
    pub attempted: u64,
    /// How they ended, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Arrivals of the warm-up.
    pub warmup_excluded: u64,
    /// Accepts seen before connect returned.
    pub accepted_before_return: u64,
    /// Accepts seen in a bracket that contains the return of connect.
    pub accept_order_undetermined: u64,
    /// Attempts that may have been accepted and ended without an observed accept.
    pub not_observed: u64,
    /// Waits that had not ended, in accept_response as "at least".
    pub censored: u64,
    /// Samples over [`HIGHEST_NS`].
    pub clipped: u64,
    /// Looks at waiting connections that the kernel had no memory for, warm-up included.
    pub samples_missed: u64,
    /// How long generator threads kept their CPU while somebody waited for it.
    pub cpu_held_ns: u64,
    /// Samples where the kernel retransmits, of connections on which it did.
    pub retransmitted: RetransmissionSchedule,
    /// Where the connections were that were never accepted.
    pub unaccepted: Unaccepted,
    /// Message bytes out.
    pub bytes_sent: u64,
    /// Echo bytes in.
    pub bytes_received: u64,
    /// Latest intended instant of a connect that was called, from the start of the run.
    pub last_intended_ns: u64,
    /// Latest instant of a connect call, from the start of the run.
    pub last_called_ns: u64,
}

impl Counts {
    /// Attempts that ended so.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Attempts that ended.
    pub fn finished(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        for (mine, theirs) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += theirs;
        }
        self.warmup_excluded += other.warmup_excluded;
        self.accepted_before_return += other.accepted_before_return;
        self.accept_order_undetermined += other.accept_order_undetermined;
        self.not_observed += other.not_observed;
        self.censored += other.censored;
        self.clipped += other.clipped;
        self.samples_missed += other.samples_missed;
        self.cpu_held_ns += other.cpu_held_ns;
        self.retransmitted = self.retransmitted.merged(other.retransmitted);
        self.unaccepted = self.unaccepted.merged(other.unaccepted);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.last_intended_ns = self.last_intended_ns.max(other.last_intended_ns);
        self.last_called_ns = self.last_called_ns.max(other.last_called_ns);
    }
}

/// Which error numbers came with which outcome. Holds the first few kinds by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrnoCounts {
    kinds: Vec<(Outcome, i32, u64)>,
    others: u64,
}

/// Kinds kept apart: more than the errors that connect(2), recv(2) and send(2) name.
const ERRNO_KINDS_MAX: usize = 32;

impl ErrnoCounts {
    fn new() -> Self {
        Self { kinds: Vec::with_capacity(ERRNO_KINDS_MAX), others: 0 }
    }

    /// Outcome, error number, count.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, i32, u64)> + '_ {
        self.kinds.iter().copied()
    }

    /// Errors of kinds that found no room.
    pub fn others(&self) -> u64 {
        self.others
    }

    fn add(&mut self, outcome: Outcome, errno: i32, count: u64) {
        let known = self.kinds.iter().position(|&(o, e, _)| (o, e) == (outcome, errno));
        match known {
            Some(at) => self.kinds[at].2 += count,
            None if self.kinds.len() < ERRNO_KINDS_MAX => self.kinds.push((outcome, errno, count)),
            None => self.others += count,
        }
    }

    fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(outcome, errno, n)| self.add(outcome, errno, n));
        self.others += other.others;
    }

    fn clear(&mut self) {
        self.kinds.clear();
        self.others = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_kept_and_counted() {
        let mut recorder = Recorder::new();
        recorder.record(Phase::Connect, 0);
        recorder.record(Phase::Connect, HIGHEST_NS);
        recorder.record(Phase::Connect, u64::MAX);
        let done = recorder.take_interval(5, Recording::new());
        assert_eq!(done.histogram(Phase::Connect).len(), 3);
        assert_eq!(done.histogram(Phase::Connect).min(), 1);
        assert_eq!(done.counts().clipped, 1);
    }

    #[test]
    fn intervals_follow_each_other_and_add_up() {
        let mut recorder = Recorder::new();
        recorder.attempt();
        recorder.outcome(Outcome::Refused, Some(111));
        let mut first = recorder.take_interval(10, Recording::new());
        recorder.attempt();
        recorder.censored(77);
        recorder.outcome(Outcome::Refused, Some(111));
        let second = recorder.take_interval(20, Recording::new());
        assert_eq!((second.index, second.start_ns, second.end_ns), (1, 10, 20));
        first.add(&second);
        assert_eq!(first.counts().outcome(Outcome::Refused), 2);
        assert_eq!(first.counts().attempted, first.counts().finished());
        assert_eq!(first.errnos().iter().collect::<Vec<_>>(), [(Outcome::Refused, 111, 2)]);
        assert_eq!((first.start_ns, first.end_ns), (0, 20));
        first.clear();
        assert!(first.is_clear());
        assert_eq!(first.errnos().iter().count(), 0);
    }

    #[test]
    fn lateness_is_recorded_with_the_call() {
        let mut recorder = Recorder::new();
        recorder.connect_called(100, 150);
        recorder.connect_called(90, 80);
        let done = recorder.take_interval(200, Recording::new());
        assert_eq!(done.histogram(Phase::GeneratorLag).max(), 50);
        assert_eq!((done.counts().last_intended_ns, done.counts().last_called_ns), (100, 150));
    }

    #[test]
    fn surplus_error_kinds_are_still_counted() {
        let mut errnos = ErrnoCounts::new();
        (0..40).for_each(|errno| errnos.add(Outcome::Refused, errno, 2));
        assert_eq!(errnos.iter().count(), ERRNO_KINDS_MAX);
        assert_eq!(errnos.others(), 16);
    }
}
