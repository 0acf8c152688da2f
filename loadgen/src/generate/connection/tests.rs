use std::time::Duration;

use uring_echo::stamp::{AcceptMode, Engine};

use super::*;
use crate::generate::recorder::Recording;
use crate::model::outcome::Phase;

const HERE: ClockDomain = ClockDomain(7);
const CALLED: u64 = 1_000;

/// A connection, what it is to do, and what it left in the ledger.
struct Stage {
    script: Script,
    recorder: AttemptRecorder,
    connection: Connection,
    now_ns: u64,
}

impl Stage {
    fn new(method: Method, messages: u32) -> Self {
        let mut recorder = AttemptRecorder::new(Duration::ZERO, true);
        let connection = Connection::new(3, recorder.called(CALLED, CALLED));
        let payload = Payload::new(100, 1);
        let script = Script { payload, messages, method, clock_domain: HERE, send_first: false };
        Self { script, recorder, connection, now_ns: CALLED + 20 }
    }

    /// Established, with whatever step that is.
    fn established(method: Method, messages: u32) -> (Self, Step) {
        let mut stage = Self::new(method, messages);
        let step = stage.tell(Connection::established);
        (stage, step)
    }

    fn tell(&mut self, event: impl FnOnce(&mut Connection, &mut Context<'_>) -> Step) -> Step {
        let Self { script, recorder, connection, now_ns } = self;
        event(connection, &mut Context { script, recorder, now_ns: *now_ns })
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        self.now_ns += 100;
        self.tell(|connection, cx| connection.received(bytes, cx))
    }

    /// The echo of message `message`.
    fn echo(&self, message: u32) -> Vec<u8> {
        let window = self.script.payload.window(3, message);
        self.script.payload.block()[window.offset()..][..100].to_vec()
    }

    fn samples(&mut self, phase: Phase) -> Vec<u64> {
        let done = self.recorder.take_interval(self.now_ns, Recording::new());
        done.histogram(phase).iter_recorded().map(|step| step.value_iterated_to()).collect()
    }
}

fn stamp(accepted_monotonic_ns: u64, clock_domain: ClockDomain) -> Vec<u8> {
    let stamp = Stamp {
        worker: 0,
        engine: Engine::Uring,
        accept: AcceptMode::Shared,
        accepted_monotonic_ns,
        accepted_realtime_ns: 0,
        sequence: 0,
        clock_domain,
    };
    stamp.encode().to_vec()
}

fn bracket(earliest_ns: u64, latest_ns: u64) -> Bracket {
    Bracket { earliest_ns, latest_ns }
}

fn end(outcome: Outcome) -> Step {
    Step::End(outcome.into())
}

#[test]
fn speaks_first_and_is_complete_with_stamp_and_echoes() {
    let (mut stage, step) = Stage::established(Method::Stamp, 2);
    assert_eq!(step, Step::Send(stage.script.payload.window(3, 0)));
    let mut bytes = stamp(CALLED + 8, HERE);
    bytes.extend(&stage.echo(0)[..40]);
    assert_eq!(stage.receive(&bytes), Step::Wait);
    let second = stage.script.payload.window(3, 1);
    let rest = stage.echo(0)[40..].to_vec();
    assert_eq!(stage.receive(&rest), Step::Send(second));
    assert!(stage.connection.has_echoes());
    let echo = stage.echo(1);
    assert_eq!(stage.receive(&echo), end(Outcome::Completed));
    assert_eq!(stage.samples(Phase::AcceptDelay), [8]);
}

#[test]
fn a_stamp_in_pieces_alone_completes_a_silent_connection() {
    let (mut stage, step) = Stage::established(Method::Stamp, 0);
    assert_eq!(step, Step::Wait);
    let bytes = stamp(CALLED + 30, HERE);
    assert_eq!(stage.receive(&bytes[..5]), Step::Wait);
    assert_eq!(stage.connection.given_up(&stage.script), Outcome::StampInvalid);
    assert_eq!(stage.receive(&bytes[5..]), end(Outcome::Completed));
}

#[test]
fn what_is_not_a_stamp_is_invalid_where_one_is_required() {
    let mut damaged = stamp(CALLED + 8, HERE);
    damaged[20] ^= 1;
    for bytes in [&b"220 mail"[..], &damaged] {
        let (mut stage, _) = Stage::established(Method::Stamp, 1);
        assert_eq!(stage.receive(bytes), end(Outcome::StampInvalid));
    }
    let (mut stage, _) = Stage::established(Method::Stamp, 1);
    assert_eq!(stage.tell(Connection::peer_finished), end(Outcome::StampInvalid));
}

#[test]
fn clocks_that_contradict_each_other_are_no_sample() {
    let stamps = [
        stamp(CALLED - 1, HERE),
        stamp(CALLED + 1_000_000, HERE),
        stamp(CALLED + 8, ClockDomain(8)),
    ];
    for bytes in stamps {
        let (mut stage, _) = Stage::established(Method::Stamp, 1);
        assert_eq!(stage.receive(&bytes), end(Outcome::ClockError));
        assert!(stage.samples(Phase::AcceptDelay).is_empty());
    }
}

#[test]
fn an_observed_accept_completes_a_silent_connection_at_the_middle_of_the_bracket() {
    let (mut stage, step) = Stage::established(Method::Diag, 0);
    assert_eq!(step, Step::Wait);
    assert!(stage.connection.listens());
    let seen = bracket(CALLED + 40, CALLED + 44);
    assert_eq!(stage.tell(|c, cx| c.seen_accepted(seen, cx)), end(Outcome::Completed));
    assert_eq!(stage.samples(Phase::AcceptDelay), [42]);
}

#[test]
fn an_accept_may_be_seen_before_connect_is_complete() {
    let mut stage = Stage::new(Method::Diag, 0);
    let seen = bracket(CALLED, CALLED + 10);
    assert_eq!(stage.tell(|c, cx| c.seen_accepted(seen, cx)), Step::Wait);
    assert!(!stage.connection.times.is_accepted());
    assert_eq!(stage.tell(Connection::established), end(Outcome::Completed));
    assert_eq!(stage.samples(Phase::AcceptDelay), [5]);
}

#[test]
fn accept_and_echo_may_come_in_either_order() {
    let seen = bracket(CALLED, CALLED + 10);
    let (mut stage, _) = Stage::established(Method::Diag, 1);
    assert_eq!(stage.tell(|c, cx| c.seen_accepted(seen, cx)), Step::Wait);
    let echo = stage.echo(0);
    assert_eq!(stage.receive(&echo), end(Outcome::Completed));
    let (mut stage, _) = Stage::established(Method::Diag, 1);
    assert_eq!(stage.receive(&echo), Step::Wait);
    assert_eq!(stage.tell(|c, cx| c.seen_accepted(seen, cx)), end(Outcome::Completed));
}

#[test]
fn a_server_that_closes_at_once_has_accepted_and_one_that_resets_has_not() {
    let seen = bracket(CALLED, CALLED + 10);
    let (mut stage, _) = Stage::established(Method::Diag, 0);
    assert_eq!(stage.tell(|c, cx| c.seen_ended(seen, cx)), Step::Wait);
    assert!(!stage.connection.times.is_accepted());
    assert_eq!(stage.tell(Connection::peer_finished), end(Outcome::Completed));
    let (mut stage, _) = Stage::established(Method::Diag, 0);
    assert_eq!(stage.tell(Connection::peer_finished), Step::Wait);
    assert!(!stage.connection.listens());
    assert_eq!(stage.tell(|c, cx| c.seen_ended(seen, cx)), end(Outcome::Completed));
}

#[test]
fn a_stamp_is_skipped_where_accepts_are_seen_otherwise() {
    for method in [Method::Diag, Method::None] {
        let (mut stage, _) = Stage::established(method, 1);
        let mut bytes = stamp(CALLED + 8, HERE);
        bytes.extend(stage.echo(0));
        let expected = if method == Method::None { end(Outcome::Completed) } else { Step::Wait };
        assert_eq!(stage.receive(&bytes), expected);
        assert!(!stage.connection.times.is_accepted());
    }
}

#[test]
fn unobserved_and_silent_is_complete_when_established() {
    let (mut stage, step) = Stage::established(Method::None, 0);
    assert_eq!(step, end(Outcome::Completed));
    assert_eq!(stage.samples(Phase::Connect), [20]);
}

#[test]
fn a_greeting_is_nothing_to_a_silent_client_and_a_mismatch_to_one_that_talks() {
    let (mut stage, _) = Stage::established(Method::Diag, 0);
    assert_eq!(stage.receive(b"UE220 mail"), Step::Wait);
    assert_eq!(stage.receive(b"more"), Step::Wait);
    assert_eq!(stage.samples(Phase::FirstByte), [120]);
    for greeting in [&b"220 mail"[..], b"UE220", b"UECHOST1"] {
        let (mut stage, _) = Stage::established(Method::Diag, 1);
        let step = stage.receive(greeting);
        let step = if step == Step::Wait { stage.receive(&[b'U'; 64]) } else { step };
        assert_eq!(step, end(Outcome::EchoMismatch), "{greeting:?}");
    }
}

#[test]
fn wrong_or_surplus_bytes_are_a_mismatch() {
    let (mut stage, _) = Stage::established(Method::None, 2);
    let other = stage.echo(1);
    assert_eq!(stage.receive(&other), end(Outcome::EchoMismatch));
    let (mut stage, _) = Stage::established(Method::None, 2);
    let mut surplus = stage.echo(0);
    surplus.push(surplus[0]);
    assert_eq!(stage.receive(&surplus), end(Outcome::EchoMismatch));
    let (mut stage, _) = Stage::established(Method::Diag, 1);
    let echo = stage.echo(0);
    assert_eq!(stage.receive(&echo), Step::Wait);
    assert_eq!(stage.receive(&echo[..1]), end(Outcome::EchoMismatch));
}

#[test]
fn a_close_before_the_echo_is_a_reset() {
    let (mut stage, _) = Stage::established(Method::Diag, 1);
    assert_eq!(stage.tell(Connection::peer_finished), end(Outcome::ClosedEarly));
}

#[test]
fn giving_up_says_what_was_missing() {
    let stage = Stage::new(Method::Stamp, 1);
    assert_eq!(stage.connection.given_up(&stage.script), Outcome::ConnectTimeout);
    for (method, outcome) in [
        (Method::Stamp, Outcome::NeverAccepted),
        (Method::Diag, Outcome::NeverAccepted),
        (Method::None, Outcome::EchoTimeout),
    ] {
        let (stage, _) = Stage::established(method, 1);
        assert_eq!(stage.connection.given_up(&stage.script), outcome);
    }
    let (mut stage, _) = Stage::established(Method::Stamp, 1);
    assert_eq!(stage.receive(&stamp(CALLED + 8, HERE)), Step::Wait);
    assert_eq!(stage.connection.given_up(&stage.script), Outcome::EchoTimeout);
}
