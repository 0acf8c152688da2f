//! What the shard does, in short examples: events in, actions out.

use super::{
    AcceptEnd, Action, BufId, Burst, ConnId, Event, Limits, ListenerId, Nanos, PeerKey, RecvEnd,
    Shard, SocketId, Source, Span, Stats,
};

pub(super) const LIMITS: Limits = Limits {
    listeners: 1,
    max_connections: 4,
    accept_burst: 100,
    buffers: 8,
    buffer_size: 8,
    credit: 32,
    greeting: 0,
    max_per_ip: None,
    idle_timeout: None,
    write_timeout: None,
    min_drain: 4,
    drain_timeout: None,
    accept_backoff: Nanos(10),
    room_grace: Nanos(25),
};

/// A shard, a clock, and the ids of the connections in the order in which they were accepted.
pub(super) struct Harness {
    pub(super) shard: Shard,
    pub(super) now: Nanos,
    pub(super) conns: Vec<ConnId>,
}

impl Harness {
    fn new(limits: Limits) -> Self {
        Self { shard: Shard::new(limits), now: Nanos(0), conns: Vec::new() }
    }

    /// A started shard with `count` connections, each in a burst of one.
    pub(super) fn with_connections(limits: Limits, count: u32) -> Self {
        let mut harness = Self::new(limits);
        harness.handle(Event::Start);
        for _ in 0..count {
            harness.connect();
        }
        harness
    }

    /// Handles `event`; returns the actions as text.
    pub(super) fn handle(&mut self, event: Event) -> Vec<String> {
        let (mut actions, mut named) = (Vec::new(), None);
        self.shard.handle(self.now, event, &mut |action| {
            if let Action::ArmRecv { conn, .. } | Action::Close { conn, .. } = action {
                named = Some(conn);
            }
            actions.push(describe(action));
        });
        self.shard.assert_sound();
        if matches!(event, Event::Accepted { .. }) {
            self.conns.extend(named);
        }
        actions
    }

    fn connect(&mut self) -> Vec<String> {
        let mut actions = self.accepted(None);
        actions.extend(self.accept_ended(AcceptEnd::Complete));
        actions
    }

    fn accepted(&mut self, peer: Option<PeerKey>) -> Vec<String> {
        let socket = SocketId(u32::try_from(self.conns.len()).unwrap());
        self.handle(Event::Accepted { listener: ListenerId(0), socket, peer })
    }

    fn accept_ended(&mut self, end: AcceptEnd) -> Vec<String> {
        self.handle(Event::AcceptEnded { listener: ListenerId(0), end })
    }

    pub(super) fn received(&mut self, who: usize, buf: u16, len: u32) -> Vec<String> {
        self.handle(Event::Received {
            conn: self.conns[who],
            buf: BufId(buf),
            len,
            continues: false,
        })
    }

    pub(super) fn recv_ended(&mut self, who: usize, end: RecvEnd) -> Vec<String> {
        self.handle(Event::RecvEnded { conn: self.conns[who], end })
    }

    pub(super) fn sent(&mut self, who: usize, len: u32) -> Vec<String> {
        self.handle(Event::Sent { conn: self.conns[who], len })
    }

    pub(super) fn writable(&mut self, who: usize) -> Vec<String> {
        self.handle(Event::Writable { conn: self.conns[who] })
    }

    pub(super) fn unsent(&mut self, who: usize, bytes: Option<u32>) -> Vec<String> {
        self.handle(Event::Unsent { conn: self.conns[who], bytes })
    }

    pub(super) fn closed(&mut self, who: usize) -> Vec<String> {
        self.handle(Event::Closed { conn: self.conns[who] })
    }

    pub(super) fn tick_at(&mut self, now: u64) -> Vec<String> {
        self.now = Nanos(now);
        self.handle(Event::Tick)
    }

    pub(super) fn stats(&self) -> &Stats {
        self.shard.stats()
    }
}

fn describe(action: Action<'_>) -> String {
    match action {
        Action::ArmAccept { burst: Burst::One, .. } => "accept one".into(),
        Action::ArmAccept { burst: Burst::Many, .. } => "accept many".into(),
        Action::CancelAccept { .. } => "cancel accept".into(),
        Action::ArmRecv { socket, .. } => format!("recv {}", socket.0),
        Action::CancelRecv { socket, .. } => format!("cancel recv {}", socket.0),
        Action::Send { socket, source: Source::Greeting { offset, len }, .. } => {
            format!("greet {} {offset}+{len}", socket.0)
        }
        Action::Send { socket, source: Source::Spans(spans), .. } => {
            let spans: Vec<_> = spans.iter().map(span).collect();
            format!("send {} {}", socket.0, spans.join(" "))
        }
        Action::WatchWritable { socket, .. } => format!("watch {}", socket.0),
        Action::AskUnsent { socket, .. } => format!("ask {}", socket.0),
        Action::Copy { span: from, to, at } => format!("copy {} to b{}:{at}", span(&from), to.0),
        Action::Release { buf } => format!("release b{}", buf.0),
        Action::CancelAll { socket, .. } => format!("cancel all {}", socket.0),
        Action::Close { socket, orderly: true, .. } => format!("end {}", socket.0),
        Action::Close { socket, orderly: false, .. } => format!("drop {}", socket.0),
    }
}

fn span(span: &Span) -> String {
    format!("b{}:{}+{}", span.buf.0, span.offset, span.len)
}

#[test]
fn what_comes_in_goes_out() {
    let mut harness = Harness::new(LIMITS);
    assert_eq!(harness.handle(Event::Start), ["accept one"]);
    assert_eq!(harness.accepted(None), ["recv 0"]);
    assert_eq!(harness.accept_ended(AcceptEnd::Complete), ["accept one"]);
    assert_eq!(harness.received(0, 3, 5), ["send 0 b3:0+5"]);
    assert_eq!(harness.sent(0, 5), ["release b3"]);
    assert_eq!(harness.recv_ended(0, RecvEnd::Eof), ["end 0"]);
    assert!(harness.closed(0).is_empty());
    assert!(harness.shard.is_quiescent());
}

#[test]
fn what_comes_during_a_send_goes_out_as_one() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    assert_eq!(harness.received(0, 0, 8), ["send 0 b0:0+8"]);
    assert!(harness.received(0, 1, 8).is_empty());
    assert!(harness.received(0, 2, 7).is_empty());
    assert_eq!(harness.sent(0, 8), ["release b0", "send 0 b1:0+8 b2:0+7"]);
}

#[test]
fn small_pieces_share_a_buffer() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    assert_eq!(harness.received(0, 0, 3), ["send 0 b0:0+3"]);
    assert_eq!(harness.received(0, 1, 2), ["copy b1:0+2 to b0:3", "release b1"]);
    assert_eq!(harness.received(0, 1, 3), ["copy b1:0+3 to b0:5", "release b1"]);
    assert!(harness.received(0, 1, 1).is_empty(), "the first buffer is full");
    assert_eq!(harness.sent(0, 3), ["send 0 b0:3+5 b1:0+1"]);
}

#[test]
fn a_short_send_goes_on_where_it_stopped() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    harness.received(0, 0, 8);
    harness.received(0, 1, 8);
    assert_eq!(harness.sent(0, 6), ["cancel recv 0", "watch 0"]);
    assert_eq!(harness.writable(0), ["send 0 b0:6+2 b1:0+8"]);
    assert_eq!(harness.sent(0, 3), ["release b0", "watch 0"]);
    assert_eq!(harness.writable(0), ["send 0 b1:1+7"]);
}

#[test]
fn the_greeting_comes_first() {
    let mut harness = Harness::new(Limits { greeting: 64, ..LIMITS });
    harness.handle(Event::Start);
    assert_eq!(harness.accepted(None), ["greet 0 0+64", "recv 0"]);
    assert!(harness.received(0, 0, 1).is_empty());
    assert_eq!(harness.sent(0, 60), ["cancel recv 0", "watch 0"]);
    assert_eq!(harness.writable(0), ["greet 0 60+4"]);
    assert_eq!(harness.sent(0, 4), ["send 0 b0:0+1"]);
}

#[test]
fn what_is_owed_at_the_end_of_the_stream_is_paid() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    harness.received(0, 0, 8);
    harness.received(0, 1, 8);
    assert!(harness.recv_ended(0, RecvEnd::Eof).is_empty());
    harness.sent(0, 8);
    assert_eq!(harness.sent(0, 8), ["release b1", "end 0"]);
}

#[test]
fn a_reset_drops_what_is_owed_and_waits_for_what_is_in_flight() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    harness.received(0, 0, 8);
    harness.received(0, 1, 8);
    assert_eq!(harness.recv_ended(0, RecvEnd::Failed), ["cancel all 0", "release b1"]);
    let failed = Event::SendFailed { conn: harness.conns[0] };
    assert_eq!(harness.handle(failed), ["release b0", "drop 0"]);
    assert_eq!(harness.stats().reset, 1);
}

#[test]
fn who_sends_faster_than_is_sent_back_stops_at_its_credit() {
    let mut harness = Harness::with_connections(Limits { buffers: 256, ..LIMITS }, 1);
    harness.received(0, 0, 8);
    harness.received(0, 1, 8);
    harness.received(0, 2, 8);
    assert_eq!(harness.received(0, 3, 8), ["cancel recv 0"]);
    assert!(harness.received(0, 4, 8).is_empty(), "the kernel was quicker");
    assert!(harness.recv_ended(0, RecvEnd::Cancelled).is_empty());
    assert_eq!(harness.sent(0, 8).last().unwrap(), "send 0 b1:0+8 b2:0+8 b3:0+8 b4:0+8");
    let all_sent = ["release b1", "release b2", "release b3", "release b4", "recv 0"];
    assert_eq!(harness.sent(0, 32), all_sent);
}

#[test]
fn the_fewer_buffers_are_free_the_fewer_one_connection_may_hold() {
    let mut harness = Harness::with_connections(Limits { buffers: 67, ..LIMITS }, 2);
    harness.received(0, 0, 8);
    assert_eq!(harness.recv_ended(0, RecvEnd::Complete), ["recv 0"], "an eighth of 66 - 50 is 2");
    harness.received(0, 1, 8);
    assert!(harness.recv_ended(0, RecvEnd::Complete).is_empty(), "an eighth of 65 - 50 is 1");
    harness.received(1, 2, 8);
    assert_eq!(harness.sent(1, 8), ["release b2"], "who is served is not held up");
    assert_eq!(harness.sent(0, 8), ["release b0", "recv 0", "send 0 b1:0+8"], "half is free again");
}

#[test]
fn each_buffer_that_comes_home_wakes_the_next_in_line() {
    let mut harness = Harness::with_connections(Limits { buffers: 2, ..LIMITS }, 4);
    harness.received(0, 0, 8);
    harness.received(0, 1, 8);
    for who in [2, 1, 3] {
        assert!(harness.recv_ended(who, RecvEnd::NoBuffers).is_empty());
    }
    assert_eq!(harness.sent(0, 8), ["release b0", "send 0 b1:0+8", "recv 2"]);
    assert_eq!(harness.recv_ended(2, RecvEnd::Eof), ["end 2", "recv 1"], "2 had no use for it");
    assert_eq!(harness.sent(0, 8), ["release b1", "recv 3"]);
}

#[test]
fn a_release_nobody_waited_for_wakes_the_next_who_comes() {
    let mut harness = Harness::with_connections(Limits { buffers: 1, ..LIMITS }, 2);
    harness.received(0, 0, 8);
    assert_eq!(harness.sent(0, 8), ["release b0"]);
    assert_eq!(harness.recv_ended(1, RecvEnd::NoBuffers), ["recv 1"]);
    assert!(harness.recv_ended(1, RecvEnd::NoBuffers).is_empty(), "once per release");
    assert_eq!(harness.shard.deadline(), Some(Nanos(10)));
    assert_eq!(harness.tick_at(10), ["recv 1"], "and now and then");
}

#[test]
fn a_full_table_leaves_the_rest_in_the_queue() {
    let mut harness = Harness::with_connections(LIMITS, 3);
    assert_eq!(harness.accepted(None), ["recv 3"]);
    assert!(harness.accept_ended(AcceptEnd::Complete).is_empty());
    harness.recv_ended(2, RecvEnd::Eof);
    assert_eq!(harness.closed(2), ["accept one"]);
}

#[test]
fn a_burst_ends_while_there_is_a_place_for_each() {
    let mut harness = Harness::new(Limits { max_connections: 6, accept_burst: 4, ..LIMITS });
    assert_eq!(harness.handle(Event::Start), ["accept many"]);
    assert_eq!(harness.accepted(None), ["recv 0"]);
    assert_eq!(harness.accepted(None), ["recv 1", "cancel accept"]);
    for who in 2..6 {
        assert_eq!(harness.accepted(None), [format!("recv {who}")]);
    }
    assert!(harness.accept_ended(AcceptEnd::Cancelled).is_empty());
}

#[test]
fn a_short_system_is_asked_again_later_or_after_a_close() {
    let mut harness = Harness::with_connections(LIMITS, 1);
    assert!(harness.accept_ended(AcceptEnd::Exhausted).is_empty());
    assert!(harness.tick_at(9).is_empty());
    assert_eq!(harness.tick_at(10), ["accept one"]);
    assert!(harness.accept_ended(AcceptEnd::Exhausted).is_empty());
    harness.recv_ended(0, RecvEnd::Eof);
    assert_eq!(harness.closed(0), ["accept one"]);
    assert_eq!(harness.accept_ended(AcceptEnd::Aborted), ["accept one"]);
    assert!(harness.accept_ended(AcceptEnd::Fatal).is_empty());
    assert_eq!(harness.shard.fault(), Some(ListenerId(0)));
}

#[test]
fn a_peer_with_enough_connections_gets_no_more() {
    let mut harness = Harness::new(Limits { max_per_ip: Some(1), ..LIMITS });
    harness.handle(Event::Start);
    let peer = Some(PeerKey(1));
    harness.accepted(peer);
    harness.accept_ended(AcceptEnd::Complete);
    assert_eq!(harness.accepted(peer), ["drop 1"]);
    harness.accept_ended(AcceptEnd::Complete);
    harness.recv_ended(0, RecvEnd::Eof);
    harness.closed(0);
    assert_eq!(harness.accepted(peer), ["recv 2"]);
    assert_eq!(harness.stats().refused_by_ip, 1);
}

#[test]
fn the_idle_are_closed_an_eighth_late_at_most() {
    let mut harness =
        Harness::with_connections(Limits { idle_timeout: Some(Nanos(80)), ..LIMITS }, 1);
    harness.now = Nanos(5);
    harness.received(0, 0, 1);
    harness.sent(0, 1);
    assert_eq!(harness.shard.deadline(), Some(Nanos(90)), "too soon to be noted");
    harness.now = Nanos(20);
    harness.received(0, 0, 1);
    assert_eq!(harness.shard.deadline(), Some(Nanos(110)));
    assert!(harness.tick_at(109).is_empty());
    assert_eq!(harness.tick_at(110), ["cancel all 0"]);
    assert_eq!(harness.stats().idle_timeouts, 1);
}

#[test]
fn a_drain_serves_what_still_comes_until_its_time_is_over() {
    let mut harness =
        Harness::with_connections(Limits { drain_timeout: Some(Nanos(50)), ..LIMITS }, 1);
    assert_eq!(harness.handle(Event::Drain), ["cancel accept"]);
    assert_eq!(harness.accepted(None), ["recv 1"]);
    assert!(harness.accept_ended(AcceptEnd::Cancelled).is_empty());
    assert!(harness.shard.begin_queued_accept(ListenerId(0)), "there are two places");
    assert!(!harness.shard.begin_queued_accept(ListenerId(0)), "one at a time");
    assert_eq!(harness.accepted(None), ["recv 2"], "taken out of the queue by the engine");
    assert!(harness.accept_ended(AcceptEnd::Complete).is_empty());
    assert_eq!(harness.received(1, 0, 4), ["send 1 b0:0+4"]);
    let last_first = ["cancel all 2", "cancel all 1", "cancel all 0"];
    assert_eq!(harness.tick_at(50), last_first, "where the kernel finds them at once");
    assert_eq!(harness.recv_ended(0, RecvEnd::Cancelled), ["drop 0"]);
    assert!(!harness.shard.is_finished());
}
