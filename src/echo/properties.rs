//! Properties of the shard under any sequence of events, against a byte-stream oracle.
//!
//! The kernel here is the least one that can be: it does only what the sequence says, so that a
//! failing one shrinks to a few lines. The simulation in `tests/sim.rs` has the elaborate one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    AcceptEnd, Action, BufId, Burst, ConnId, Event, Limits, ListenerId, Nanos, RecvEnd, Shard,
    SocketId, Source, Span, Stats,
};

const LISTENER: ListenerId = ListenerId(0);

/// One thing that happens; ignored where it cannot.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Receive {
        who: u8,
        len: u32,
    },
    EndReceive {
        who: u8,
        end: RecvEnd,
    },
    /// Takes `part` of 4 of what is in flight, at least one byte; 0 fails.
    EndSend {
        who: u8,
        part: u32,
    },
    /// The socket is writable.
    Writable {
        who: u8,
    },
    /// So many bytes are unsent.
    Unsent {
        who: u8,
        bytes: Option<u32>,
    },
    Close {
        who: u8,
    },
    Stale,
}

#[derive(Debug, Default)]
struct Peer {
    conn: Option<ConnId>,
    armed: bool,
    cancelled: bool,
    in_flight: Option<Vec<Piece>>,
    watched: bool,
    asked: bool,
    /// The close that was asked for: was it an orderly one?
    closing: Option<bool>,
    closed: bool,
    orderly: bool,
    broken: bool,
    ended: bool,
    received: u32,
    greeted: u32,
    echoed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Greeting { offset: u32, len: u32 },
    Bytes(Span),
}

#[derive(Debug)]
struct Kernel {
    limits: Limits,
    memory: Vec<Vec<u8>>,
    pool: Vec<BufId>,
    peers: Vec<Peer>,
    armed: Option<Burst>,
    cancelled: bool,
    past: Vec<ConnId>,
}

#[derive(Debug)]
struct World {
    shard: Shard,
    kernel: Kernel,
    now: Nanos,
    stopped: bool,
    /// Connections that were cut off although nothing happened to them.
    bad_ends: u64,
}

fn limits() -> impl Strategy<Value = Limits> {
    (1u32..6, 1u32..4, 1u16..7, 1u32..10, 1u32..5, prop_oneof![Just(0u32), Just(64)]).prop_map(
        |(max_connections, accept_burst, buffers, buffer_size, credit, greeting)| Limits {
            listeners: 1,
            max_connections,
            accept_burst,
            buffers,
            buffer_size,
            credit: credit * buffer_size,
            greeting,
            max_per_ip: None,
            idle_timeout: None,
            write_timeout: None,
            min_drain: 1,
            drain_timeout: None,
            accept_backoff: Nanos(10),
            room_grace: Nanos(10),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0u8..5;
    let end = prop_oneof![
        4 => Just(RecvEnd::Complete),
        4 => Just(RecvEnd::NoBuffers),
        1 => Just(RecvEnd::Eof),
        1 => Just(RecvEnd::Failed),
    ];
    prop_oneof![
        3 => Just(Step::Connect),
        12 => (who.clone(), 1u32..10).prop_map(|(who, len)| Step::Receive { who, len }),
        4 => (who.clone(), end).prop_map(|(who, end)| Step::EndReceive { who, end }),
        8 => (who.clone(), 0u32..40).prop_map(|(who, part)| Step::EndSend { who, part }),
        6 => who.clone().prop_map(|who| Step::Writable { who }),
        2 => (who.clone(), proptest::option::of(0u32..4))
            .prop_map(|(who, bytes)| Step::Unsent { who, bytes }),
        2 => who.prop_map(|who| Step::Close { who }),
        1 => Just(Step::Stale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens, every byte comes back once, in order, and nothing is left over.
    #[test]
    fn every_byte_comes_back(limits in limits(), steps in vec(step(), 0..120)) {
        let mut world = World::new(limits);
        steps.into_iter().for_each(|step| world.take(step));
        world.finish();
    }

    /// The same when everything is stopped in the middle of it.
    #[test]
    fn a_stop_leaves_nothing(
        limits in limits(),
        steps in vec(step(), 0..60),
        more in vec(step(), 0..20),
    ) {
        let mut world = World::new(limits);
        steps.into_iter().for_each(|step| world.take(step));
        world.handle(Event::Stop);
        world.stopped = true;
        more.into_iter().for_each(|step| world.take(step));
        world.finish();
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        let size = limits.buffer_size as usize;
        let kernel = Kernel {
            memory: vec![vec![0; size]; usize::from(limits.buffers)],
            pool: (0..limits.buffers).map(BufId).collect(),
            peers: Vec::new(),
            armed: None,
            cancelled: false,
            past: Vec::new(),
            limits,
        };
        let mut world =
            Self { shard: Shard::new(limits), kernel, now: Nanos(1), stopped: false, bad_ends: 0 };
        world.handle(Event::Start);
        world
    }

    fn handle(&mut self, event: Event) {
        self.now = self.now.plus(Nanos(1));
        let kernel = &mut self.kernel;
        self.shard.handle(self.now, event, &mut |action| kernel.carry_out(action));
        self.shard.assert_sound();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect => self.connect(),
            Step::Receive { who, len } => self.receive(usize::from(who), len),
            Step::EndReceive { who, end } => self.end_receive(usize::from(who), end),
            Step::EndSend { who, part } => self.end_send(usize::from(who), part),
            Step::Writable { who } => self.writable(usize::from(who)),
            Step::Unsent { who, bytes } => self.unsent(usize::from(who), bytes),
            Step::Close { who } => self.close(usize::from(who)),
            Step::Stale => self.stale(),
        }
    }

    fn connect(&mut self) {
        let Some(burst) = self.kernel.armed else { return };
        if self.kernel.cancelled {
            return self.end_accept(AcceptEnd::Cancelled);
        }
        let socket = SocketId(u32::try_from(self.kernel.peers.len()).unwrap());
        self.kernel.peers.push(Peer::default());
        self.handle(Event::Accepted { listener: LISTENER, socket, peer: None });
        if burst == Burst::One {
            self.end_accept(AcceptEnd::Complete);
        }
    }

    fn end_accept(&mut self, end: AcceptEnd) {
        self.kernel.armed = None;
        self.kernel.cancelled = false;
        self.handle(Event::AcceptEnded { listener: LISTENER, end });
    }

    fn receive(&mut self, who: usize, len: u32) {
        let Some(peer) = self.kernel.peers.get(who).filter(|peer| peer.armed) else { return };
        let (conn, first) = (peer.conn.unwrap(), peer.received);
        let Some(buf) = self.kernel.pool.pop() else {
            return self.end_receive(who, RecvEnd::NoBuffers);
        };
        let len = len.min(self.kernel.limits.buffer_size);
        for at in 0..len {
            self.kernel.memory[usize::from(buf.0)][at as usize] = oracle(who, first + at);
        }
        self.kernel.peers[who].received += len;
        self.handle(Event::Received { conn, buf, len, continues: false });
    }

    fn end_receive(&mut self, who: usize, end: RecvEnd) {
        let Some(peer) = self.kernel.peers.get_mut(who).filter(|peer| peer.armed) else { return };
        let end = if peer.cancelled { RecvEnd::Cancelled } else { end };
        peer.armed = false;
        peer.cancelled = false;
        peer.broken |= end == RecvEnd::Failed;
        peer.ended |= end == RecvEnd::Eof;
        let conn = peer.conn.unwrap();
        self.handle(Event::RecvEnded { conn, end });
    }

    fn end_send(&mut self, who: usize, part: u32) {
        let Some(peer) = self.kernel.peers.get_mut(who) else { return };
        let Some(pieces) = peer.in_flight.take() else { return };
        let conn = peer.conn.unwrap();
        if part == 0 {
            peer.broken = true;
            return self.handle(Event::SendFailed { conn });
        }
        let all: u32 = pieces.iter().map(Piece::len).sum();
        let len = (all * part.min(4) / 4).max(1);
        self.kernel.check_sent(who, &pieces, len);
        self.handle(Event::Sent { conn, len });
    }

    fn writable(&mut self, who: usize) {
        let Some(peer) = self.kernel.peers.get_mut(who) else { return };
        if std::mem::take(&mut peer.watched) {
            let conn = peer.conn.unwrap();
            self.handle(Event::Writable { conn });
        }
    }

    fn unsent(&mut self, who: usize, bytes: Option<u32>) {
        let Some(peer) = self.kernel.peers.get_mut(who) else { return };
        if std::mem::take(&mut peer.asked) {
            let conn = peer.conn.unwrap();
            self.handle(Event::Unsent { conn, bytes });
        }
    }

    fn close(&mut self, who: usize) {
        let Some(peer) = self.kernel.peers.get_mut(who) else { return };
        let Some(orderly) = peer.closing.take() else { return };
        let undisturbed = !peer.broken && !self.stopped;
        self.bad_ends += u64::from(undisturbed && !orderly);
        let Stats { evicted, write_timeouts, .. } = *self.shard.stats();
        assert!(self.bad_ends <= evicted, "an undisturbed connection ended badly");
        assert_eq!(write_timeouts, 0, "no timeout is set");
        assert!(!(orderly && peer.broken), "a broken connection ended well");
        peer.orderly = orderly;
        peer.closed = true;
        let conn = peer.conn.unwrap();
        self.kernel.past.push(conn);
        self.handle(Event::Closed { conn });
    }

    fn stale(&mut self) {
        let Some(&conn) = self.kernel.past.last() else { return };
        self.handle(Event::Sent { conn, len: 1 });
        self.handle(Event::SendFailed { conn });
        self.handle(Event::Writable { conn });
        self.handle(Event::RecvEnded { conn, end: RecvEnd::Failed });
        self.handle(Event::Closed { conn });
        if let Some(buf) = self.kernel.pool.pop() {
            let free = self.kernel.pool.len();
            self.handle(Event::Received { conn, buf, len: 1, continues: false });
            assert!(self.kernel.pool.len() > free, "a stale buffer is released");
        }
    }

    /// Lets every connection end the way it would; then nothing may be left of any.
    fn finish(&mut self) {
        self.handle(Event::Drain);
        for _ in 0..10_000 {
            if self.shard.is_finished() {
                break;
            }
            if self.kernel.armed.is_some() {
                self.end_accept(AcceptEnd::Cancelled);
            }
            for who in 0..self.kernel.peers.len() {
                self.end_send(who, 4);
                self.unsent(who, Some(0));
                self.writable(who);
                self.end_receive(who, RecvEnd::Eof);
                self.close(who);
            }
            self.now = self.shard.deadline().unwrap_or(self.now);
            self.handle(Event::Tick);
        }
        assert!(self.shard.is_finished() && self.shard.is_quiescent(), "{:#?}", self.shard);
        assert_eq!(self.kernel.pool.len(), usize::from(self.kernel.limits.buffers));
        assert_eq!(self.shard.stats().slips, 0);
        for peer in &self.kernel.peers {
            assert!(peer.closed);
            if peer.orderly {
                let greeting = self.kernel.limits.greeting;
                assert_eq!((peer.echoed, peer.greeted), (peer.received, greeting));
            }
        }
    }
}

impl Kernel {
    fn carry_out(&mut self, action: Action<'_>) {
        match action {
            Action::ArmAccept { burst, .. } => assert_eq!(self.armed.replace(burst), None),
            Action::CancelAccept { .. } => self.cancelled = true,
            Action::ArmRecv { conn, socket, .. } => self.peer(socket, conn).arm(),
            Action::CancelRecv { conn, socket } => {
                let peer = self.peer(socket, conn);
                assert!(peer.armed && !peer.cancelled);
                peer.cancelled = true;
            }
            Action::Send { conn, socket, source } => {
                let before = self.peer(socket, conn).in_flight.replace(pieces(source));
                assert!(before.is_none(), "two sends in flight");
            }
            Action::WatchWritable { conn, socket } => {
                let peer = self.peer(socket, conn);
                assert!(!std::mem::replace(&mut peer.watched, true), "watched twice");
            }
            Action::AskUnsent { conn, socket } => {
                let peer = self.peer(socket, conn);
                assert!(!std::mem::replace(&mut peer.asked, true), "asked twice");
            }
            Action::Copy { span, to, at } => self.copy(span, to, at),
            Action::Release { buf } => {
                assert!(!self.pool.contains(&buf), "{buf:?} was released twice");
                self.memory[usize::from(buf.0)].fill(0xDD);
                self.pool.push(buf);
            }
            Action::CancelAll { conn, socket, .. } => self.peer(socket, conn).cancelled = true,
            Action::Close { conn, socket, orderly } => {
                let peer = self.peer(socket, conn);
                let waits = peer.watched || peer.asked;
                let busy = waits || peer.armed || peer.in_flight.is_some();
                assert!(!busy, "closed with something in flight");
                assert!(!peer.closed && peer.closing.is_none(), "closed twice");
                peer.closing = Some(orderly);
            }
        }
    }

    fn peer(&mut self, socket: SocketId, conn: ConnId) -> &mut Peer {
        let peer = &mut self.peers[socket.0 as usize];
        assert_eq!(*peer.conn.get_or_insert(conn), conn, "a socket changed hands");
        peer
    }

    fn copy(&mut self, span: Span, to: BufId, at: u32) {
        let bytes: Vec<u8> = (0..span.len).map(|n| self.byte(span, n)).collect();
        let at = at as usize;
        self.memory[usize::from(to.0)][at..at + bytes.len()].copy_from_slice(&bytes);
    }

    fn byte(&self, span: Span, nth: u32) -> u8 {
        self.memory[usize::from(span.buf.0)][(span.offset + nth) as usize]
    }

    /// The first `len` bytes of `pieces` leave: are they the next ones of the stream?
    fn check_sent(&mut self, who: usize, pieces: &[Piece], mut len: u32) {
        for piece in pieces {
            let part = piece.len().min(len);
            len -= part;
            match *piece {
                Piece::Greeting { offset, .. } => {
                    assert_eq!(offset, self.peers[who].greeted);
                    self.peers[who].greeted += part;
                }
                Piece::Bytes(span) => {
                    assert_eq!(self.peers[who].greeted, self.limits.greeting, "echo came first");
                    for nth in 0..part {
                        let expected = oracle(who, self.peers[who].echoed);
                        assert_eq!(self.byte(span, nth), expected, "a wrong byte");
                        self.peers[who].echoed += 1;
                    }
                }
            }
        }
    }
}

impl Peer {
    fn arm(&mut self) {
        assert!(!self.armed, "two receives armed");
        assert!(!self.ended && !self.broken, "armed after the end");
        self.armed = true;
    }
}

impl Piece {
    fn len(&self) -> u32 {
        match self {
            Self::Greeting { len, .. } => *len,
            Self::Bytes(span) => span.len,
        }
    }
}

fn pieces(source: Source<'_>) -> Vec<Piece> {
    match source {
        Source::Greeting { offset, len } => vec![Piece::Greeting { offset, len }],
        Source::Spans(spans) => spans.iter().map(|&span| Piece::Bytes(span)).collect(),
    }
}

/// Byte `nth` of what peer `who` sends.
fn oracle(who: usize, nth: u32) -> u8 {
    let salt = u32::try_from(who).unwrap() * 101;
    nth.wrapping_mul(31).wrapping_add(nth >> 6).wrapping_add(salt).to_le_bytes()[0]
}
