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
/// A new connection is sampled in every pass, an older one at intervals of 1/64 of its age: the
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
}

impl DiagWatch {
    /// For keys below `connections`; all memory is allocated now.
    ///
    /// # Errors
    /// As [`DiagSocket::open`].
    pub fn open(connections: u32) -> io::Result<Self> {
        Ok(Self::with_sampler(DiagSocket::open()?, connections))
    }
}

impl<S: SocketSampler> DiagWatch<S> {
    /// As [`open`](DiagWatch::open), with samples from `sampler`.
    pub fn with_sampler(sampler: S, connections: u32) -> Self {
        let keys = connections as usize;
        Self {
            sampler,
            waiting: vec![None; keys].into_boxed_slice(),
            count: 0,
            due: BinaryHeap::with_capacity(keys.saturating_mul(2).max(1)),
            serial: 0,
            missed: 0,
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
        self.remove(key);
        self.drop_stale_entries();
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let history = WaitHistory::new(since_ns);
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
        // At least 1 ns after the sample, so never twice in a pass.
        let at_ns = after_ns + (age_ns / AGE_PER_INTERVAL).max(1);
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
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::observation::{ObservationKind, VANISHED_AFTER_NS};
    use uring_echo::clock::monotonic_ns;

    use super::*;

    const QUEUED: SocketSample = SocketSample::Queued;
    const ACCEPTED: SocketSample = SocketSample::Accepted { inode: super::super::Inode(1) };
    const ABSENT: SocketSample = SocketSample::Absent { listener: true };

    /// Answers by the client's port; every sample takes 1 µs.
    struct FakeSampler {
        now_ns: u64,
        answers: [SocketSample; 4],
        sampled: Vec<u16>,
        fails: Option<Errno>,
    }

    impl SocketSampler for FakeSampler {
        fn sample(&mut self, _server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
            if let Some(errno) = self.fails {
                return Err(errno.into());
            }
            self.sampled.push(client.port());
            self.now_ns += 1_000;
            Ok(self.answers[usize::from(client.port())])
        }

        fn sampled_ns(&self) -> u64 {
            self.now_ns
        }
    }

    fn watch() -> DiagWatch<FakeSampler> {
        let answers = [QUEUED; 4];
        let fake = FakeSampler { now_ns: 0, answers, sampled: Vec::new(), fails: None };
        DiagWatch::with_sampler(fake, 4)
    }

    fn add(watch: &mut DiagWatch<FakeSampler>, key: u16, since_ns: u64) {
        let client = SocketAddr::from(([127, 0, 0, 1], key));
        watch.add(u32::from(key), client, client, since_ns);
    }

    fn pass(watch: &mut DiagWatch<FakeSampler>, now_ns: u64, budget: u32) -> Vec<Observation> {
        let mut observations = Vec::new();
        watch.sampler.now_ns = now_ns;
        watch.sampler.sampled.clear();
        watch.pass(now_ns, budget, &mut |observation| observations.push(observation)).unwrap();
        observations
    }

    fn bracket(earliest_ns: u64, latest_ns: u64) -> Bracket {
        Bracket { earliest_ns, latest_ns }
    }

    #[test]
    fn an_accept_lies_between_the_samples_around_it() {
        let mut watch = watch();
        add(&mut watch, 1, 500);
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        watch.sampler.answers[1] = ACCEPTED;
        let kind = ObservationKind::Accepted;
        let expected =
            Observation { key: 1, since_ns: 500, bracket: bracket(10_000, 21_000), kind };
        assert_eq!(pass(&mut watch, 20_000, 9), [expected]);
        assert_eq!((watch.watched(), watch.next_due_ns()), (0, None));
    }

    #[test]
    fn an_accept_before_the_first_sample_lies_after_the_connect() {
        let mut watch = watch();
        add(&mut watch, 1, 500);
        watch.sampler.answers[1] = ACCEPTED;
        let observed = pass(&mut watch, 10_000, 9);
        assert_eq!(observed[0].bracket, bracket(500, 11_000));
        assert_eq!(observed[0].bracket.middle_ns(), 5_750);
        assert_eq!(observed[0].bracket.half_width_ns(), 5_250);
    }

    #[test]
    fn an_answer_ends_the_bracket_of_the_accept() {
        let mut watch = watch();
        add(&mut watch, 1, 500);
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        assert_eq!(watch.answered(1, 15_000), Some(bracket(10_000, 15_000)));
        assert_eq!((watch.answered(1, 16_000), watch.watched()), (None, 0));
    }

    #[test]
    fn a_connection_that_was_queued_and_is_closed_was_accepted() {
        for gone in [ABSENT, SocketSample::Ended] {
            let mut watch = watch();
            add(&mut watch, 1, 0);
            pass(&mut watch, 10_000, 9);
            watch.sampler.answers[1] = gone;
            let observed = pass(&mut watch, 20_000, 9);
            assert_eq!(observed[0].kind, ObservationKind::EndedUnseen);
            assert_eq!(observed[0].bracket, bracket(10_000, 21_000));
        }
    }

    #[test]
    fn a_connection_that_is_closed_at_the_first_sample_was_accepted() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.sampler.answers[1] = SocketSample::Ended;
        assert_eq!(pass(&mut watch, 10_000, 9)[0].kind, ObservationKind::EndedUnseen);
    }

    #[test]
    fn a_connection_that_is_absent_for_long_enough_has_vanished() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.sampler.answers[1] = ABSENT;
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        assert_eq!(pass(&mut watch, VANISHED_AFTER_NS, 9), []);
        let observed = pass(&mut watch, VANISHED_AFTER_NS * 2, 9);
        assert_eq!(observed[0].kind, ObservationKind::Vanished);
        assert_eq!(observed[0].bracket, bracket(0, 11_000));
    }

    #[test]
    fn a_connection_that_appears_after_absence_was_not_accepted_before() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.sampler.answers[1] = ABSENT;
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        assert_eq!(pass(&mut watch, 990_000_000, 9), []);
        watch.sampler.answers[1] = ACCEPTED;
        let observed = pass(&mut watch, 1_010_000_000, 9);
        assert_eq!(observed[0].bracket, bracket(990_000_000, 1_010_001_000));
    }

    #[test]
    fn one_sample_without_the_connection_does_not_end_the_wait() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        let steps = [(SocketSample::Handshake, 10_000), (ABSENT, 20_000), (QUEUED, 30_000)];
        for (sample, now_ns) in steps {
            watch.sampler.answers[1] = sample;
            assert_eq!(pass(&mut watch, now_ns, 9), []);
        }
        watch.sampler.answers[1] = ACCEPTED;
        assert_eq!(pass(&mut watch, 40_000, 9)[0].bracket, bracket(30_000, 41_000));
    }

    #[test]
    fn a_connection_is_sampled_once_a_pass_and_less_often_with_age() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        pass(&mut watch, 640_000, 9);
        assert_eq!(watch.sampler.sampled, [1]);
        assert_eq!(watch.next_due_ns(), Some(641_000 + 641_000 / 64));
        pass(&mut watch, 645_000, 9);
        assert!(watch.sampler.sampled.is_empty());
    }

    #[test]
    fn a_pass_keeps_its_budget_and_continues_with_the_longest_overdue() {
        let mut watch = watch();
        for key in 0..4 {
            add(&mut watch, key, u64::from(key));
        }
        pass(&mut watch, 10_000, 3);
        assert_eq!(watch.sampler.sampled, [0, 1, 2]);
        pass(&mut watch, 20_000, 3);
        assert_eq!(watch.sampler.sampled, [3, 0, 1]);
    }

    #[test]
    fn connections_added_again_or_removed_leave_no_growing_heap() {
        let mut watch = watch();
        for since_ns in 0..1_000 {
            add(&mut watch, 1, since_ns);
            add(&mut watch, 2, since_ns);
            watch.remove(2);
        }
        assert_eq!(watch.watched(), 1);
        assert!(watch.due.capacity() < 20);
        pass(&mut watch, 10_000, 9);
        assert_eq!(watch.sampler.sampled, [1]);
    }

    #[test]
    fn a_sample_that_fails_for_lack_of_memory_is_counted_and_repeated() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        for errno in [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM] {
            watch.sampler.fails = Some(errno);
            assert_eq!(pass(&mut watch, 10_000, 9), []);
            watch.prewarm(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
        }
        assert_eq!((watch.take_missed(), watch.take_missed()), (3, 0), "rehearsals do not count");
        watch.sampler.fails = None;
        watch.sampler.answers[1] = ACCEPTED;
        assert_eq!(pass(&mut watch, 20_000, 9)[0].bracket, bracket(0, 21_000));
        assert_eq!(watch.sampler.sampled, [1]);
    }

    #[test]
    fn a_sample_that_fails_otherwise_is_an_error() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.sampler.fails = Some(Errno::PERM);
        let failed = watch.pass(10_000, 9, &mut |_| {}).unwrap_err();
        assert_eq!((failed.kind(), watch.watched()), (io::ErrorKind::PermissionDenied, 1));
    }

    #[test]
    fn a_real_accept_is_observed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut watch = DiagWatch::open(1).unwrap();
        let mut observed = Vec::new();
        let since_ns = monotonic_ns();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        watch.add(0, client.peer_addr().unwrap(), client.local_addr().unwrap(), since_ns);
        watch.pass(monotonic_ns(), 1, &mut |o| observed.push(o)).unwrap();
        assert!(observed.is_empty());
        let before_ns = monotonic_ns();
        let _server = listener.accept().unwrap();
        let after_ns = monotonic_ns();
        while observed.is_empty() {
            watch.pass(monotonic_ns(), 1, &mut |o| observed.push(o)).unwrap();
        }
        assert_eq!(observed[0].kind, ObservationKind::Accepted);
        assert!(observed[0].bracket.earliest_ns <= after_ns);
        assert!(observed[0].bracket.latest_ns >= before_ns);
    }
}
