//! The kernel's side: which queue the server's end of the connection is in, by looking at it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::moments::Moment;
use crate::model::trace::{Event, Side};
use crate::observe::{DiagSocket, ListenerQueue, SocketSample};

/// Looks at one connection from a thread of its own.
#[derive(Debug)]
pub(super) struct Watcher {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Seen>>,
}

/// What the looks showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) moments: Vec<Moment>,
    /// The longest time between two looks until the accept queue was seen.
    pub(super) gap_ns: Option<u64>,
}

impl Watcher {
    /// Begins to look, before connect is called.
    pub(super) fn start(server: SocketAddr, client: SocketAddr) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let looker = Looker::open(server, client, Arc::clone(&over))?;
        let thread = thread::Builder::new().name("look".into()).spawn(|| looker.look())?;
        Ok(Self { over, thread })
    }

    /// Gives the looks time to see the accept, which a connection that is gone shows no more. A
    /// server that has not accepted by then is taken for one that does not.
    pub(super) fn wait_for_accept(&self) {
        let deadline = Instant::now() + ACCEPT_WITHIN;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// The connection is over.
    pub(super) fn finish(self) -> io::Result<Seen> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the looking thread panicked"))?
    }
}

struct Looker {
    diag: DiagSocket,
    queue: ListenerQueue,
    server: SocketAddr,
    client: SocketAddr,
    over: Arc<AtomicBool>,
    seen: Seen,
    began_ns: u64,
    /// When the look before was taken.
    before_ns: u64,
    retransmissions: u32,
    retransmissions_read_ns: u64,
}

impl Looker {
    fn open(server: SocketAddr, client: SocketAddr, over: Arc<AtomicBool>) -> io::Result<Self> {
        let mut diag = DiagSocket::open()?;
        diag.sample(server, client)?;
        let now = diag.sampled_ns();
        Ok(Self {
            diag,
            queue: ListenerQueue::open(server)?,
            server,
            client,
            over,
            seen: Seen::default(),
            began_ns: now,
            before_ns: now,
            retransmissions: 0,
            retransmissions_read_ns: now,
        })
    }

    /// Until a process has the connection.
    fn look(mut self) -> io::Result<Seen> {
        while !self.over.load(Ordering::Relaxed) {
            let sample = self.diag.sample(self.server, self.client)?;
            let now = self.diag.sampled_ns();
            if !self.has_seen(Event::AcceptQueue) {
                self.seen.gap_ns = self.seen.gap_ns.max(Some(now - self.before_ns));
            }
            match sample {
                SocketSample::Handshake => self.saw(Event::SynQueue, now),
                SocketSample::Queued => self.saw_queued(now)?,
                SocketSample::Accepted { .. } | SocketSample::Ended => {
                    self.saw(Event::Accepted, now);
                    break;
                }
                SocketSample::Absent { .. } => self.count_retransmissions(now)?,
            }
            self.before_ns = now;
            pause(now - self.began_ns);
        }
        Ok(self.seen)
    }

    /// Notes what is seen for the first time.
    fn saw(&mut self, event: Event, now_ns: u64) {
        if self.has_seen(event) {
            return;
        }
        let side = if event == Event::Accepted { Side::Server } else { Side::Kernel };
        let seen_within_ns = Some(now_ns - self.before_ns);
        self.seen.moments.push(Moment { seen_within_ns, ..Moment::at(side, event, now_ns) });
    }

    fn has_seen(&self, event: Event) -> bool {
        self.seen.moments.iter().any(|moment| moment.event == event)
    }

    fn saw_queued(&mut self, now_ns: u64) -> io::Result<()> {
        if self.has_seen(Event::AcceptQueue) {
            return Ok(());
        }
        // The SYN that got in may have been sent again since the look before.
        self.read_retransmissions(now_ns)?;
        // Walking the listeners takes longer than a short wait: none are left then.
        let queued = self.queue.sample()?.map(|depth| u64::from(depth.queued_max));
        self.saw(Event::AcceptQueue, now_ns);
        if let Some(moment) = self.seen.moments.last_mut() {
            moment.count = queued.filter(|queued| *queued > 0);
        }
        Ok(())
    }

    /// No server's end yet: does the client send its SYN again?
    fn count_retransmissions(&mut self, now_ns: u64) -> io::Result<()> {
        if now_ns - self.retransmissions_read_ns < RETRANSMISSIONS_EVERY_NS {
            return Ok(());
        }
        self.read_retransmissions(now_ns)
    }

    fn read_retransmissions(&mut self, now_ns: u64) -> io::Result<()> {
        let seen_within_ns = Some(now_ns - self.retransmissions_read_ns);
        self.retransmissions_read_ns = now_ns;
        let sent = self.diag.retransmissions(self.client, self.server)?.unwrap_or(0);
        if sent > self.retransmissions {
            self.retransmissions = sent;
            let moment = Moment::at(Side::Client, Event::SynRetransmitted, now_ns);
            let moment = Moment { seen_within_ns, ..moment };
            self.seen.moments.push(moment.count(sent.into()));
        }
        Ok(())
    }
}

/// A handshake over loopback and a waiting server take microseconds; what lasts longer can do
/// without a CPU that looks all the time.
fn pause(looking_ns: u64) {
    match looking_ns {
        ..CLOSE_ATTENTION_NS => thread::yield_now(),
        _ => thread::sleep(Duration::from_micros(200)),
    }
}

const ACCEPT_WITHIN: Duration = Duration::from_secs(2);
/// Also the time that the server is given to be asleep in accept.
const CLOSE_ATTENTION_NS: u64 = 30_000_000;
/// The kernel repeats a SYN after a second.
const RETRANSMISSIONS_EVERY_NS: u64 = 2_000_000;
