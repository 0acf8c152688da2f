//! The connections of one thread that wait to be accepted, looked at again and again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::diag::{DiagSocket, SocketSample};
use super::observation::{Observation, Seen};

/// Looks at waiting connections until each is accepted or gone.
///
/// A young connection is looked at in every pass, an old one at intervals of 1/64 of its age: the
/// bracket around its accept stays a small part of the delay it measures, while ten thousand
/// waiting connections cost no more than the budget that each pass is given. A look takes one to
/// four microseconds by machine.
#[derive(Debug)]
pub struct DiagWatch<L = DiagSocket> {
    looker: L,
    /// By key.
    waiting: Box<[Option<Waiting>]>,
    count: u32,
    /// Whose look comes when. A turn whose serial is not that of its connection is stale.
    turns: BinaryHeap<Reverse<Turn>>,
    serial: u32,
    missed: u64,
}

impl DiagWatch {
    /// For keys below `connections`; all memory is taken now.
    ///
    /// # Errors
    /// As [`DiagSocket::open`].
    pub fn open(connections: u32) -> io::Result<Self> {
        Ok(Self::with_looker(DiagSocket::open()?, connections))
    }
}

impl<L: SocketSampler> DiagWatch<L> {
    /// As [`open`](DiagWatch::open), looking through `looker`.
    pub fn with_looker(looker: L, connections: u32) -> Self {
        let keys = connections as usize;
        Self {
            looker,
            waiting: vec![None; keys].into_boxed_slice(),
            count: 0,
            turns: BinaryHeap::with_capacity(keys.saturating_mul(2).max(1)),
            serial: 0,
            missed: 0,
        }
    }

    /// Begins to watch a connection, once the client has an address. `server` and `client` are its
    /// addresses as the client has them (`getpeername`, `getsockname`), `since_ns` an instant at
    /// which it was not accepted yet: when connect was called, or later. A key already watched is
    /// watched anew.
    ///
    /// # Panics
    /// If `key` is not below the number given at the start.
    pub fn add(&mut self, key: u32, server: SocketAddr, client: SocketAddr, since_ns: u64) {
        self.remove(key);
        self.drop_stale_turns();
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let connection = Waiting { server, client, since_ns, serial, seen: Seen::new(since_ns) };
        self.waiting[key as usize] = Some(connection);
        self.count += 1;
        // Overdue from the start: before everything that had its look already.
        self.turns.push(Reverse(Turn { at_ns: since_ns, key, serial }));
    }

    /// Ends the watch on a connection; no observation of it follows. Does nothing where none is.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn remove(&mut self, key: u32) {
        if self.waiting[key as usize].take().is_some() {
            self.count -= 1;
        }
    }

    /// Looks once at each connection that is due at `now_ns`, the longest overdue first, at most
    /// `budget` of them, and tells `observe` of each that no longer waits; that one is not watched
    /// any more. Returns how many looks it took. One that the kernel has no memory for just now
    /// ends the pass and is repeated in the next: the bracket around that accept gets wider.
    ///
    /// `now_ns` is read from the monotonic clock right before the call.
    ///
    /// # Errors
    /// What a look failed with for good; the connection it was for stays watched.
    pub fn pass(
        &mut self,
        now_ns: u64,
        budget: u32,
        observe: &mut impl FnMut(Observation),
    ) -> io::Result<u32> {
        let mut before_ns = now_ns;
        for looks in 0..budget {
            let Some(turn) = self.next_turn(now_ns) else { return Ok(looks) };
            match self.take_turn(turn, before_ns, observe) {
                Ok(after_ns) => before_ns = after_ns,
                Err(error) => return self.miss(error).map(|()| looks),
            }
        }
        Ok(budget)
    }

    /// When the next look is due, monotonic nanoseconds; in the past when a budget ran out.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        self.turns.peek().map(|Reverse(turn)| turn.at_ns)
    }

    /// Looks at a connection that cannot be, so that the next look finds its way into the kernel in
    /// the caches: the first look after a pause takes five times as long as the second.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub fn prewarm(&mut self, server: SocketAddr) -> io::Result<()> {
        self.looker.look(server, server).map(drop).or_else(|error| self.miss(error))
    }

    /// How many looks the kernel had no memory for since this was last asked.
    pub fn take_missed(&mut self) -> u64 {
        mem::take(&mut self.missed)
    }

    /// How many connections are watched.
    #[must_use]
    pub fn watched(&self) -> u32 {
        self.count
    }

    /// Counts a look that may succeed the next time; any other error is handed back.
    fn miss(&mut self, error: io::Error) -> io::Result<()> {
        match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {
                self.missed += 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn next_turn(&mut self, now_ns: u64) -> Option<Turn> {
        while let Some(&Reverse(turn)) = self.turns.peek() {
            if turn.at_ns > now_ns {
                return None;
            }
            self.turns.pop();
            if is_current(&self.waiting, turn) {
                return Some(turn);
            }
        }
        None
    }

    /// One look. Returns the instant after it, which is the instant before the next.
    fn take_turn(
        &mut self,
        turn: Turn,
        before_ns: u64,
        observe: &mut impl FnMut(Observation),
    ) -> io::Result<u64> {
        let Some(connection) = &mut self.waiting[turn.key as usize] else { return Ok(before_ns) };
        let look = match self.looker.look(connection.server, connection.client) {
            Ok(look) => look,
            Err(error) => {
                self.turns.push(Reverse(turn));
                return Err(error);
            }
        };
        let after_ns = self.looker.sampled_ns();
        if let Some((kind, bracket)) = connection.seen.judge(look, before_ns, after_ns) {
            let since_ns = connection.since_ns;
            self.remove(turn.key);
            observe(Observation { key: turn.key, since_ns, bracket, kind });
            return Ok(after_ns);
        }
        let age_ns = after_ns.saturating_sub(connection.since_ns);
        // At least one later than the look, so never twice in a pass.
        let at_ns = after_ns + (age_ns / AGE_PER_INTERVAL).max(1);
        self.turns.push(Reverse(Turn { at_ns, ..turn }));
        Ok(after_ns)
    }

    /// Stale turns leave by themselves when they come up; this is for a caller that adds and
    /// removes without a pass between, so that the heap never grows.
    fn drop_stale_turns(&mut self) {
        if self.turns.len() == self.turns.capacity() {
            let waiting = &self.waiting;
            self.turns.retain(|Reverse(turn)| is_current(waiting, *turn));
        }
    }
}

/// What a [`DiagWatch`] looks with.
pub trait SocketSampler {
    /// One look at the server's end of a connection.
    ///
    /// # Errors
    /// As [`DiagSocket::look`].
    fn look(&mut self, server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample>;

    /// When the last look was over, monotonic nanoseconds.
    fn sampled_ns(&self) -> u64;
}

impl SocketSampler for DiagSocket {
    fn look(&mut self, server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
        Self::look(self, server, client)
    }

    fn sampled_ns(&self) -> u64 {
        Self::sampled_ns(self)
    }
}

/// A connection looked at.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    server: SocketAddr,
    client: SocketAddr,
    since_ns: u64,
    serial: u32,
    seen: Seen,
}

/// In order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at_ns: u64,
    key: u32,
    serial: u32,
}

fn is_current(waiting: &[Option<Waiting>], turn: Turn) -> bool {
    waiting[turn.key as usize].is_some_and(|connection| connection.serial == turn.serial)
}

/// An interval between two looks is the connection's age divided by this.
const AGE_PER_INTERVAL: u64 = 64;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::observation::{Bracket, ObservationKind, VANISHED_AFTER_NS};
    use uring_echo::clock::monotonic_ns;

    use super::*;

    const QUEUED: SocketSample = SocketSample::Queued;
    const ACCEPTED: SocketSample = SocketSample::Accepted { inode: super::super::Inode(1) };
    const ABSENT: SocketSample = SocketSample::Absent { listener: true };

    /// Answers by the client's port; every look takes a microsecond.
    struct Fake {
        now_ns: u64,
        answers: [SocketSample; 4],
        looked_at: Vec<u16>,
        fails: Option<Errno>,
    }

    impl SocketSampler for Fake {
        fn look(&mut self, _server: SocketAddr, client: SocketAddr) -> io::Result<SocketSample> {
            if let Some(errno) = self.fails {
                return Err(errno.into());
            }
            self.looked_at.push(client.port());
            self.now_ns += 1_000;
            Ok(self.answers[usize::from(client.port())])
        }

        fn sampled_ns(&self) -> u64 {
            self.now_ns
        }
    }

    fn watch() -> DiagWatch<Fake> {
        let fake = Fake { now_ns: 0, answers: [QUEUED; 4], looked_at: Vec::new(), fails: None };
        DiagWatch::with_looker(fake, 4)
    }

    fn add(watch: &mut DiagWatch<Fake>, key: u16, since_ns: u64) {
        let client = SocketAddr::from(([127, 0, 0, 1], key));
        watch.add(u32::from(key), client, client, since_ns);
    }

    fn pass(watch: &mut DiagWatch<Fake>, now_ns: u64, budget: u32) -> Vec<Observation> {
        let mut observations = Vec::new();
        watch.looker.now_ns = now_ns;
        watch.looker.looked_at.clear();
        watch.pass(now_ns, budget, &mut |observation| observations.push(observation)).unwrap();
        observations
    }

    fn bracket(last_without_ns: u64, first_with_ns: u64) -> Bracket {
        Bracket { last_without_ns, first_with_ns }
    }

    #[test]
    fn an_accept_lies_between_the_looks_around_it() {
        let mut watch = watch();
        add(&mut watch, 1, 500);
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        watch.looker.answers[1] = ACCEPTED;
        let kind = ObservationKind::Accepted;
        let expected =
            Observation { key: 1, since_ns: 500, bracket: bracket(10_000, 21_000), kind };
        assert_eq!(pass(&mut watch, 20_000, 9), [expected]);
        assert_eq!((watch.watched(), watch.next_due_ns()), (0, None));
    }

    #[test]
    fn an_accept_before_the_first_look_is_after_the_connect() {
        let mut watch = watch();
        add(&mut watch, 1, 500);
        watch.looker.answers[1] = ACCEPTED;
        let observed = pass(&mut watch, 10_000, 9);
        assert_eq!(observed[0].bracket, bracket(500, 11_000));
        assert_eq!(observed[0].bracket.middle_ns(), 5_750);
        assert_eq!(observed[0].bracket.half_width_ns(), 5_250);
    }

    #[test]
    fn closed_after_queued_was_accepted() {
        for gone in [ABSENT, SocketSample::Ended] {
            let mut watch = watch();
            add(&mut watch, 1, 0);
            pass(&mut watch, 10_000, 9);
            watch.looker.answers[1] = gone;
            let observed = pass(&mut watch, 20_000, 9);
            assert_eq!(observed[0].kind, ObservationKind::EndedUnseen);
            assert_eq!(observed[0].bracket, bracket(10_000, 21_000));
        }
    }

    #[test]
    fn closed_at_the_first_look_was_accepted() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.looker.answers[1] = SocketSample::Ended;
        assert_eq!(pass(&mut watch, 10_000, 9)[0].kind, ObservationKind::EndedUnseen);
    }

    #[test]
    fn never_seen_is_given_time_to_appear() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.looker.answers[1] = ABSENT;
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        assert_eq!(pass(&mut watch, VANISHED_AFTER_NS, 9), []);
        let observed = pass(&mut watch, VANISHED_AFTER_NS * 2, 9);
        assert_eq!(observed[0].kind, ObservationKind::Vanished);
        assert_eq!(observed[0].bracket, bracket(0, 11_000));
    }

    #[test]
    fn a_handshake_that_was_repeated_was_not_accepted_before() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.looker.answers[1] = ABSENT;
        assert_eq!(pass(&mut watch, 10_000, 9), []);
        assert_eq!(pass(&mut watch, 990_000_000, 9), []);
        watch.looker.answers[1] = ACCEPTED;
        let observed = pass(&mut watch, 1_010_000_000, 9);
        assert_eq!(observed[0].bracket, bracket(990_000_000, 1_010_001_000));
    }

    #[test]
    fn a_missed_look_does_not_end_the_wait() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        let steps = [(SocketSample::Handshake, 10_000), (ABSENT, 20_000), (QUEUED, 30_000)];
        for (look, now_ns) in steps {
            watch.looker.answers[1] = look;
            assert_eq!(pass(&mut watch, now_ns, 9), []);
        }
        watch.looker.answers[1] = ACCEPTED;
        assert_eq!(pass(&mut watch, 40_000, 9)[0].bracket, bracket(30_000, 41_000));
    }

    #[test]
    fn a_connection_is_looked_at_once_a_pass_and_less_with_age() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        pass(&mut watch, 640_000, 9);
        assert_eq!(watch.looker.looked_at, [1]);
        assert_eq!(watch.next_due_ns(), Some(641_000 + 641_000 / 64));
        pass(&mut watch, 645_000, 9);
        assert!(watch.looker.looked_at.is_empty());
    }

    #[test]
    fn a_budget_is_kept_and_takes_turns() {
        let mut watch = watch();
        for key in 0..4 {
            add(&mut watch, key, u64::from(key));
        }
        pass(&mut watch, 10_000, 3);
        assert_eq!(watch.looker.looked_at, [0, 1, 2]);
        pass(&mut watch, 20_000, 3);
        assert_eq!(watch.looker.looked_at, [3, 0, 1]);
    }

    #[test]
    fn what_is_removed_or_added_again_leaves_no_trace() {
        let mut watch = watch();
        for since_ns in 0..1_000 {
            add(&mut watch, 1, since_ns);
            add(&mut watch, 2, since_ns);
            watch.remove(2);
        }
        assert_eq!(watch.watched(), 1);
        assert!(watch.turns.capacity() < 20);
        pass(&mut watch, 10_000, 9);
        assert_eq!(watch.looker.looked_at, [1]);
    }

    #[test]
    fn a_look_without_memory_is_counted_and_repeated() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        for errno in [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM] {
            watch.looker.fails = Some(errno);
            assert_eq!(pass(&mut watch, 10_000, 9), []);
            watch.prewarm(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
        }
        assert_eq!((watch.take_missed(), watch.take_missed()), (6, 0));
        watch.looker.fails = None;
        watch.looker.answers[1] = ACCEPTED;
        assert_eq!(pass(&mut watch, 20_000, 9)[0].bracket, bracket(0, 21_000));
        assert_eq!(watch.looker.looked_at, [1]);
    }

    #[test]
    fn a_look_that_cannot_succeed_is_an_error() {
        let mut watch = watch();
        add(&mut watch, 1, 0);
        watch.looker.fails = Some(Errno::PERM);
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
        assert!(observed[0].bracket.last_without_ns <= after_ns);
        assert!(observed[0].bracket.first_with_ns >= before_ns);
    }
}
