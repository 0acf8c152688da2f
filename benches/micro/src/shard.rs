//! A shard and the least that a kernel has to say to it.

use std::hint::black_box;

use uring_echo::echo::{
    Action, BufId, ConnId, Event, Limits, ListenerId, Nanos, RecvEnd, Shard, SocketId, Stats,
};

/// Bytes of a message, and of a small piece.
const MESSAGE: u32 = 64;
/// Pieces that arrive while a send is in flight.
const PIECES: u32 = 16;
const BUFFER: u32 = 16 << 10;

/// As a server with default flags has them, and with an idle timeout.
const LIMITS: Limits = Limits {
    listeners: 1,
    max_connections: 4096,
    accept_burst: 1024,
    buffers: 1024,
    buffer_size: BUFFER,
    credit: 256 << 10,
    greeting: 0,
    max_per_ip: None,
    idle_timeout: Some(Nanos(60_000_000_000)),
    write_timeout: Some(Nanos(60_000_000_000)),
    min_drain: 4096,
    drain_timeout: Some(Nanos(10_000_000_000)),
    accept_backoff: Nanos(10_000_000),
    room_grace: Nanos(500_000_000),
};

/// A serving shard with a thousand open connections, one of which talks.
#[derive(Debug)]
pub struct Worker {
    shard: Shard,
    now: u64,
    talker: ConnId,
}

/// One of the things a [`Worker`] does.
pub type Operation = fn(&mut Worker);

impl Worker {
    /// With every operation done a few times.
    #[must_use]
    pub fn warm() -> Box<Self> {
        let mut worker = Box::new(Self::with_connections(LIMITS, 1000).0);
        for _ in 0..8 {
            worker.connection();
            worker.echo();
            worker.gather();
            worker.look_at_the_clock();
        }
        worker
    }

    /// A connection comes, echoes one message, ends, and is closed: five events.
    pub fn connection(&mut self) {
        let conn = self.accept();
        self.echo_on(conn);
        self.tell(Event::RecvEnded { conn, end: RecvEnd::Eof });
        self.tell(Event::Closed { conn });
    }

    /// One message on an open connection: two events.
    pub fn echo(&mut self) {
        self.echo_on(self.talker);
    }

    /// Sixteen small pieces arrive during a send, are gathered behind it and leave as one: 19
    /// events.
    pub fn gather(&mut self) {
        let conn = self.talker;
        for piece in 0..=PIECES {
            let buf = BufId(u16::try_from(piece).expect("few"));
            self.tell(Event::Received { conn, buf, len: MESSAGE, continues: false });
        }
        self.tell(Event::Sent { conn, len: MESSAGE });
        self.tell(Event::Sent { conn, len: PIECES * MESSAGE });
    }

    /// When is something due, and a tick at which nothing is.
    pub fn look_at_the_clock(&mut self) {
        black_box(self.shard.deadline());
        self.tell(Event::Tick);
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.shard.stats()
    }

    fn with_connections(limits: Limits, count: u32) -> (Self, Vec<ConnId>) {
        let nobody = ConnId::new(0, 0);
        let mut worker = Self { shard: Shard::new(limits), now: 0, talker: nobody };
        worker.tell(Event::Start);
        let conns: Vec<ConnId> = (0..count).map(|_| worker.accept()).collect();
        worker.talker = conns[conns.len() / 2];
        (worker, conns)
    }

    fn accept(&mut self) -> ConnId {
        let (listener, socket) = (ListenerId(0), SocketId(self.shard.open()));
        let armed = self.tell(Event::Accepted { listener, socket, peer: None });
        armed.expect("who is accepted is listened to")
    }

    fn echo_on(&mut self, conn: ConnId) {
        self.tell(Event::Received { conn, buf: BufId(0), len: MESSAGE, continues: false });
        self.tell(Event::Sent { conn, len: MESSAGE });
    }

    /// Tells the shard a microsecond later; whose receive it armed, if any.
    fn tell(&mut self, event: Event) -> Option<ConnId> {
        self.now += 1000;
        let mut armed = None;
        self.shard.handle(Nanos(self.now), event, &mut |action| {
            if let Action::ArmRecv { conn, .. } = black_box(action) {
                armed = Some(conn);
            }
        });
        armed
    }
}

/// A shard whose pool is empty: whoever gets a buffer has waited for it.
#[derive(Debug)]
pub struct Crowded {
    worker: Worker,
    holder: ConnId,
    waiter: ConnId,
}

impl Crowded {
    /// Two buffers, both held, and three connections; has gone round a few times.
    #[must_use]
    pub fn warm() -> Box<Self> {
        let limits = Limits { buffers: 2, credit: 2 * BUFFER, ..LIMITS };
        let (mut worker, conns) = Worker::with_connections(limits, 3);
        for (buf, &conn) in (0..2).map(BufId).zip(&conns) {
            worker.tell(Event::Received { conn, buf, len: MESSAGE, continues: false });
        }
        let mut crowded = Box::new(Self { worker, holder: conns[0], waiter: conns[2] });
        (0..8).for_each(|_| crowded.pass_on());
        crowded
    }

    /// One finds the pool empty and is parked, the other's buffer comes home and wakes it, and it
    /// receives: three events.
    pub fn pass_on(&mut self) {
        let (holder, waiter) = (self.holder, self.waiter);
        self.worker.tell(Event::RecvEnded { conn: waiter, end: RecvEnd::NoBuffers });
        let woken = self.worker.tell(Event::Sent { conn: holder, len: MESSAGE });
        assert_eq!(woken, Some(waiter), "a buffer that comes home wakes who waits");
        self.worker.tell(Event::Received {
            conn: waiter,
            buf: BufId(0),
            len: MESSAGE,
            continues: false,
        });
        (self.holder, self.waiter) = (waiter, holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_what_they_say_and_leave_no_trace() {
        let mut worker = Worker::warm();
        let before = *worker.stats();
        worker.connection();
        worker.echo();
        worker.gather();
        let after = *worker.stats();
        assert_eq!(after.accepted - before.accepted, 1);
        assert_eq!(after.closed - before.closed, 1);
        assert_eq!(after.gathered - before.gathered, u64::from(PIECES));
        assert_eq!(after.sends - before.sends, 4);
        assert_eq!(after.bytes_out - before.bytes_out, u64::from(MESSAGE * (PIECES + 3)));
        assert_eq!(worker.shard.open(), 1000);
        worker.shard.assert_sound();
    }

    #[test]
    fn a_crowd_passes_its_buffer_on() {
        let mut crowded = Crowded::warm();
        let before = crowded.worker.stats().parked;
        (0..10).for_each(|_| crowded.pass_on());
        assert_eq!(crowded.worker.stats().parked - before, 10);
        crowded.worker.shard.assert_sound();
    }
}
