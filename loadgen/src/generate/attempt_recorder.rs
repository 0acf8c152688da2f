//! Which durations follow from the instants of an attempt, and when they are recorded.
//!
//! Attempts of the warm-up pass through here like all others and leave no trace but their number.

use std::time::Duration;

use crate::generate::recorder::{Recorder, Recording};
use crate::model::evidence::{RetransmissionSchedule, Unaccepted, is_on_retransmission_schedule};
use crate::model::outcome::{Outcome, Phase};
use crate::observe::{Bracket, OffsetBounds, StampedAccept};
use crate::plan::schedule::Untaken;
use crate::sys::time::nanos;

/// The instants of one attempt, monotonic nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// Whether it belongs to the measurement and not to the warm-up.
    measured: bool,
    /// t0: when the schedule wanted it.
    intended_ns: u64,
    /// t1: immediately before connect entered the kernel.
    called_ns: u64,
    /// t2: when connect was seen to be complete.
    established_ns: Option<u64>,
    /// t4: when the server had it.
    accepted: Option<Accept>,
    /// t5: when the first byte from the server was here.
    first_byte_ns: Option<u64>,
}

/// An accept, as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// When, monotonic nanoseconds; the middle of the bracket.
    pub at_ns: u64,
    /// Where it lies; `None` if the instant is exact.
    pub bracket: Option<Bracket>,
}

impl Accept {
    /// At this monotonic instant.
    #[must_use]
    pub fn exactly(at_ns: u64) -> Self {
        Self { at_ns, bracket: None }
    }

    /// Somewhere in the bracket.
    #[must_use]
    pub fn within(bracket: Bracket) -> Self {
        Self { at_ns: bracket.middle_ns(), bracket: Some(bracket) }
    }

    /// Whether it came after `instant_ns`; `None` if the bracket contains that instant.
    fn is_after(self, instant_ns: u64) -> Option<bool> {
        let exact = Bracket { earliest_ns: self.at_ns, latest_ns: self.at_ns };
        let Bracket { earliest_ns, latest_ns } = self.bracket.unwrap_or(exact);
        match (latest_ns <= instant_ns, earliest_ns >= instant_ns) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The outcome.
    pub outcome: Outcome,
    /// What the system call said, where it was one.
    pub errno: Option<i32>,
}

/// An accept before the connect that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("accepted {by_ns} ns before connect was called")]
pub struct AcceptedTooEarly {
    /// By how much.
    pub by_ns: u64,
}

/// Writes one thread's attempts into its [`Recorder`].
#[derive(Debug)]
pub struct AttemptRecorder {
    recorder: Recorder,
    start_ns: u64,
    warmup_ns: u64,
    /// Somebody looks when connections are accepted; without, a wait says nothing about accepts.
    observed: bool,
    /// Where the server's clock lies, if it is not this one.
    clock: Option<OffsetBounds>,
}

impl Timeline {
    /// When connect was called (t1).
    #[must_use]
    pub fn called_ns(&self) -> u64 {
        self.called_ns
    }

    /// Whether connect is complete.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established_ns.is_some()
    }

    /// Whether the accept has been observed.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, errno: None }
    }
}

impl AttemptRecorder {
    /// An empty one; [`Self::begin`] comes before the first attempt.
    #[must_use]
    pub fn new(warmup: Duration, observed: bool) -> Self {
        let (recorder, warmup_ns) = (Recorder::new(), nanos(warmup));
        Self { recorder, start_ns: 0, warmup_ns, observed, clock: None }
    }

    /// Of accepts that are stamped by another clock, if there is one.
    #[must_use]
    pub fn beside(self, clock: Option<OffsetBounds>) -> Self {
        Self { clock, ..self }
    }

    /// The run starts at this instant.
    pub fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// An arrival of the schedule for which connect was never called.
    pub fn not_called(&mut self, intended_ns: u64, ending: Ending) {
        if self.arrival(intended_ns) {
            self.recorder.outcome(ending.outcome, ending.errno);
        }
    }

    /// Arrivals of the schedule that the generator did not come to in time.
    pub fn not_begun(&mut self, untaken: Untaken) {
        self.recorder.warmup_excluded(untaken.warmup);
        self.recorder.not_begun(untaken.measured);
    }

    /// An arrival of the schedule for which connect is about to enter the kernel.
    pub fn called(&mut self, intended_ns: u64, called_ns: u64) -> Timeline {
        let measured = self.arrival(intended_ns);
        if measured {
            let since_start = |at_ns: u64| at_ns.saturating_sub(self.start_ns);
            self.recorder.connect_called(since_start(intended_ns), since_start(called_ns));
        }
        Timeline {
            measured,
            intended_ns,
            called_ns,
            established_ns: None,
            accepted: None,
            first_byte_ns: None,
        }
    }

    /// connect is complete.
    pub fn established(&mut self, times: &mut Timeline, now_ns: u64) {
        times.established_ns = Some(now_ns);
        self.record(times, Phase::Connect, now_ns.saturating_sub(times.called_ns));
    }

    /// The accept of a stamp that was here at `arrived_ns`; `None` where the clocks contradict each
    /// other. By another clock every stamp narrows the bounds, those of the warm-up too.
    pub fn stamped(
        &mut self,
        times: &Timeline,
        accepted_ns: u64,
        arrived_ns: u64,
    ) -> Option<Accept> {
        let called_ns = times.called_ns;
        match &mut self.clock {
            None => (accepted_ns <= arrived_ns).then(|| Accept::exactly(accepted_ns)),
            Some(clock) => {
                let stamped = StampedAccept { called_ns, accepted_ns, arrived_ns };
                clock.narrow(stamped).ok().map(Accept::within)
            }
        }
    }

    /// The server took the connection. Comes after [`Self::established`], though the accept itself
    /// may lie before it.
    ///
    /// # Errors
    /// [`AcceptedTooEarly`]: the clocks contradict each other, and nothing is recorded.
    pub fn accepted(
        &mut self,
        times: &mut Timeline,
        accept: Accept,
    ) -> Result<(), AcceptedTooEarly> {
        let Some(delay_ns) = accept.at_ns.checked_sub(times.called_ns) else {
            return Err(AcceptedTooEarly { by_ns: times.called_ns - accept.at_ns });
        };
        times.accepted = Some(accept);
        self.record(times, Phase::AcceptDelay, delay_ns);
        let response_ns = accept.at_ns.saturating_sub(times.intended_ns);
        self.record(times, Phase::AcceptResponse, response_ns);
        if let Some(bracket) = accept.bracket {
            self.record(times, Phase::DiagResolution, bracket.width_ns());
        }
        self.in_order(times, accept);
        Ok(())
    }

    /// Records on which side of connect's return the accept lies. That it lies on one of them is
    /// not claimed where the bracket contains both.
    fn in_order(&mut self, times: &Timeline, accept: Accept) {
        let established_ns = times.established_ns.unwrap_or(times.called_ns);
        match accept.is_after(established_ns) {
            Some(true) => {
                self.record(times, Phase::PostConnectWait, accept.at_ns - established_ns);
            }
            Some(false) if times.measured => self.recorder.accepted_before_return(),
            None if times.measured => self.recorder.accept_order_undetermined(),
            Some(false) | None => {}
        }
    }

    /// Bytes from the server are here; only the first count.
    pub fn bytes_arrived(&mut self, times: &mut Timeline, now_ns: u64) {
        if times.first_byte_ns.is_none() {
            times.first_byte_ns = Some(now_ns);
            self.record(times, Phase::FirstByte, now_ns.saturating_sub(times.called_ns));
        }
    }

    /// Bytes of a message went out.
    pub fn sent(&mut self, times: &Timeline, bytes: u32) {
        if times.measured {
            self.recorder.bytes_sent(bytes.into());
        }
    }

    /// Bytes of an echo came back.
    pub fn received(&mut self, times: &Timeline, bytes: usize) {
        if times.measured {
            self.recorder.bytes_received(bytes as u64);
        }
    }

    /// A message came back whole, this long after it was sent.
    pub fn echoed(&mut self, times: &Timeline, rtt_ns: u64) {
        self.record(times, Phase::EchoRtt, rtt_ns);
    }

    /// The attempt is over. One that waited in vain enters accept_response with the time it waited.
    pub fn ended(&mut self, times: &Timeline, ending: Ending, now_ns: u64) {
        if !times.measured {
            return;
        }
        self.recorder.outcome(ending.outcome, ending.errno);
        if !self.observed || times.is_accepted() {
            return;
        }
        if waited_in_vain(ending.outcome) {
            self.recorder.censored(now_ns.saturating_sub(times.intended_ns));
        }
        if times.is_established() && may_have_been_accepted(ending.outcome) {
            self.recorder.not_observed();
        }
    }

    /// Segments of the connection were sent again, by the client or only by the server: counts its
    /// samples that lie where the kernel does that.
    pub fn retransmitted(&mut self, times: &Timeline, by_client: bool) {
        let since_call = |at_ns: Option<u64>| at_ns?.checked_sub(times.called_ns);
        // The server's SYN-ACK takes the path once more, and so does the ACK that it calls for.
        let handshake_ns = since_call(times.established_ns).unwrap_or(0);
        let path_ns = if by_client { 0 } else { handshake_ns.saturating_mul(2) };
        let on_schedule =
            |ns: Option<u64>| ns.is_some_and(|ns| is_on_retransmission_schedule(ns, path_ns));
        let connect = by_client && on_schedule(since_call(times.established_ns));
        let accept = on_schedule(since_call(times.accepted.map(|accept| accept.at_ns)));
        if times.measured {
            self.recorder.retransmitted(RetransmissionSchedule {
                connect: connect.into(),
                accept_delay: (by_client && accept).into(),
                handshake_repeated: (!by_client && accept).into(),
            });
        }
    }

    /// What the server's end showed when a connection was given up that was never accepted.
    pub fn unaccepted(&mut self, times: &Timeline, shown: Unaccepted) {
        if times.measured {
            self.recorder.unaccepted(shown);
        }
    }

    /// So many looks at waiting connections were not answered.
    pub fn samples_missed(&mut self, count: u64) {
        self.recorder.samples_missed(count);
    }

    /// A generator thread ran on for this long while somebody waited for its CPU.
    pub fn cpu_held(&mut self, from_ns: u64, length_ns: u64) {
        if from_ns >= self.start_ns + self.warmup_ns {
            self.recorder.cpu_held(length_ns);
        }
    }

    /// As [`Recorder::take_interval`], with an instant of the monotonic clock.
    pub fn take_interval(&mut self, now_ns: u64, into: Recording) -> Recording {
        let mut done = self.recorder.take_interval(now_ns.saturating_sub(self.start_ns), into);
        done.clock = self.clock;
        done
    }

    /// Counts an arrival; true if it is to be measured.
    fn arrival(&mut self, intended_ns: u64) -> bool {
        let measured = intended_ns >= self.start_ns + self.warmup_ns;
        if measured {
            self.recorder.attempt();
        } else {
            self.recorder.warmup_excluded(1);
        }
        measured
    }

    fn record(&mut self, times: &Timeline, phase: Phase, ns: u64) {
        if times.measured {
            self.recorder.record(phase, ns);
        }
    }
}

/// Ended without an accept that could be seen, after a wait that must not vanish from the tail.
fn waited_in_vain(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::ConnectTimeout
            | Outcome::NeverAccepted
            | Outcome::ResetAfterConnect
            | Outcome::StampInvalid
            | Outcome::Unfinished
    )
}

/// The server did something with an established connection, or something happened to it, other
/// than that it waited for its accept until the end.
fn may_have_been_accepted(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::NeverAccepted | Outcome::Unfinished | Outcome::ClockError)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;

    fn recorder(warmup_ns: u64) -> AttemptRecorder {
        let mut recorder = AttemptRecorder::new(Duration::from_nanos(warmup_ns), true);
        recorder.begin(START);
        recorder
    }

    #[test]
    fn durations_are_those_of_the_vocabulary() {
        let mut recorder = recorder(0);
        let mut times = recorder.called(START + 10, START + 14);
        recorder.established(&mut times, START + 34);
        recorder.bytes_arrived(&mut times, START + 114);
        recorder.bytes_arrived(&mut times, START + 999);
        let bracket = Bracket { earliest_ns: START + 60, latest_ns: START + 67 };
        recorder.accepted(&mut times, Accept::within(bracket)).unwrap();
        recorder.echoed(&times, 80);
        recorder.ended(&times, Outcome::Completed.into(), START + 200);
        let done = recorder.take_interval(START + 1000, Recording::new());
        let durations = Phase::ALL.map(|phase| done.histogram(phase).max());
        assert_eq!(durations, [49, 53, 20, 29, 4, 100, 80, 7]);
        assert_eq!(done.counts().outcome(Outcome::Completed), 1);
        assert_eq!((done.end_ns, done.counts().accepted_before_return), (1000, 0));
    }

    #[test]
    fn an_accept_before_connect_returned_has_no_wait_after_it() {
        let mut recorder = recorder(0);
        let mut times = recorder.called(START, START);
        recorder.established(&mut times, START + 20);
        recorder.accepted(&mut times, Accept::exactly(START + 8)).unwrap();
        let done = recorder.take_interval(START + 50, Recording::new());
        assert_eq!(done.histogram(Phase::AcceptDelay).max(), 8);
        assert!(done.histogram(Phase::PostConnectWait).is_empty());
        assert_eq!(done.counts().accepted_before_return, 1);
    }

    #[test]
    fn a_repeated_handshake_takes_the_path_once_more() {
        let counted = |handshake_ms: u64, accept_ms: u64| {
            let mut recorder = recorder(0);
            let mut times = recorder.called(START, START);
            recorder.established(&mut times, START + handshake_ms * 1_000_000);
            let accept = Accept::exactly(START + accept_ms * 1_000_000);
            recorder.accepted(&mut times, accept).unwrap();
            recorder.retransmitted(&times, false);
            let done = recorder.take_interval(START + 1, Recording::new());
            done.counts().retransmitted.handshake_repeated
        };
        assert_eq!(counted(50, 1_110), 1, "a second, and the path of 50 ms twice");
        assert_eq!(counted(0, 1_110), 0, "no path explains the rest");
        assert_eq!(counted(50, 1_200), 0);
    }

    #[test]
    fn what_a_bracket_cannot_know_is_not_claimed() {
        let established_ns = START + 20;
        let cases = [((5, 20), [1, 0, 0]), ((20, 30), [0, 1, 0]), ((19, 21), [0, 0, 1])];
        for ((earliest, latest), expected) in cases {
            let mut recorder = recorder(0);
            let mut times = recorder.called(START, START);
            recorder.established(&mut times, established_ns);
            let bracket = Bracket { earliest_ns: START + earliest, latest_ns: START + latest };
            recorder.accepted(&mut times, Accept::within(bracket)).unwrap();
            let done = recorder.take_interval(START + 50, Recording::new());
            let counts = done.counts();
            let after = done.histogram(Phase::PostConnectWait).len();
            let found = [counts.accepted_before_return, after, counts.accept_order_undetermined];
            assert_eq!(found, expected, "{bracket:?}");
            assert_eq!(done.histogram(Phase::AcceptDelay).len(), 1);
        }
    }

    #[test]
    fn an_established_attempt_without_a_sample_is_not_observed() {
        let mut recorder = recorder(0);
        let mut end = |established, accepted, outcome: Outcome| {
            let mut times = recorder.called(START, START);
            if established {
                recorder.established(&mut times, START + 20);
            }
            if accepted {
                recorder.accepted(&mut times, Accept::exactly(START + 30)).unwrap();
            }
            recorder.ended(&times, outcome.into(), START + 40);
            recorder.take_interval(START + 50, Recording::new()).counts().not_observed
        };
        assert_eq!(end(true, false, Outcome::EchoMismatch), 1);
        assert_eq!(end(true, false, Outcome::ResetAfterConnect), 1);
        assert_eq!(end(true, true, Outcome::EchoMismatch), 0);
        assert_eq!(end(true, false, Outcome::NeverAccepted), 0);
        assert_eq!(end(false, false, Outcome::Refused), 0);
    }

    #[test]
    fn an_accept_before_connect_is_a_contradiction_and_not_a_zero() {
        let mut recorder = recorder(0);
        let mut times = recorder.called(START, START + 5);
        recorder.established(&mut times, START + 20);
        let error = recorder.accepted(&mut times, Accept::exactly(START + 2)).unwrap_err();
        assert_eq!((error.by_ns, times.is_accepted()), (3, false));
        let done = recorder.take_interval(START + 50, Recording::new());
        assert!(done.histogram(Phase::AcceptDelay).is_empty());
    }

    #[test]
    fn waits_in_vain_count_from_the_intended_instant() {
        let mut recorder = recorder(0);
        let times = recorder.called(START + 100, START + 150);
        recorder.ended(&times, Outcome::ConnectTimeout.into(), START + 1100);
        let refused = recorder.called(START + 100, START + 150);
        let ending = Ending { outcome: Outcome::Refused, errno: Some(111) };
        recorder.ended(&refused, ending, START + 1100);
        let done = recorder.take_interval(START + 2000, Recording::new());
        assert_eq!(done.histogram(Phase::AcceptResponse).len(), 1);
        assert_eq!(done.histogram(Phase::AcceptResponse).max(), 1000);
        assert_eq!((done.counts().censored, done.counts().attempted), (1, 2));
    }

    #[test]
    fn the_warm_up_leaves_nothing_but_its_number() {
        let mut recorder = recorder(100);
        let mut times = recorder.called(START + 99, START + 150);
        recorder.established(&mut times, START + 160);
        recorder.bytes_arrived(&mut times, START + 170);
        recorder.accepted(&mut times, Accept::exactly(START + 155)).unwrap();
        recorder.sent(&times, 5);
        recorder.received(&times, 5);
        recorder.echoed(&times, 5);
        recorder.ended(&times, Outcome::Unfinished.into(), START + 180);
        recorder.not_called(START + 99, Outcome::Shed.into());
        recorder.not_called(START + 100, Outcome::Shed.into());
        let done = recorder.take_interval(START + 200, Recording::new());
        assert!(Phase::ALL.iter().all(|&phase| done.histogram(phase).is_empty()));
        let counts = done.counts();
        assert_eq!((counts.warmup_excluded, counts.attempted, counts.finished()), (2, 1, 1));
        assert_eq!((counts.bytes_sent, counts.accepted_before_return), (0, 0));
    }
}
