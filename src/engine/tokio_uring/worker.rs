//! One worker: the state its tasks share, and its life from the first accept to the last close.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_uring::net::TcpStream;
use tracing::debug;

use super::connection::{Connection, ConnectionOptions};
use super::counters::Counters;
use super::listener::Listener;
use crate::clock::monotonic_ns;
use crate::config::Stall;
use crate::echo::peers::{PeerIndex, Peers};
use crate::echo::{AcceptEnd, PeerKey, Stats};
use crate::engine::accepted::{PeerTracking, accept_end};
use crate::engine::context::WorkerContext;
use crate::engine::error::EngineError;
use crate::engine::fullness::Fullness;
use crate::engine::loop_stats::LoopStats;
use crate::engine::stamper::Stamper;
use crate::shutdown::Phase;
use crate::stamp::FRAME_LEN;

/// State shared by the tasks of one thread.
pub(super) struct Worker {
    context: WorkerContext,
    options: ConnectionOptions,
    counters: Counters,
    listeners: Vec<Listener>,
    /// Listeners whose task has not ended.
    accepting: Cell<usize>,
    /// Connections that may still be opened; closed once the server stops.
    permits: Arc<Semaphore>,
    /// Open connections, by the number each was accepted as.
    open: RefCell<BTreeMap<u64, Rc<Connection>>>,
    peer_tracking: PeerTracking,
    peers: Option<RefCell<Peers>>,
    stamper: Option<RefCell<Stamper>>,
    /// Notified when a connection is closed: an accept that ran out of descriptors may succeed now.
    descriptor_freed: Notify,
    /// Notified when a condition of [`Self::until`] may have changed.
    progress: Notify,
    fault: Cell<Option<Errno>>,
}

/// The right to one open connection.
type Permit = OwnedSemaphorePermit;

impl Worker {
    pub(super) fn new(mut context: WorkerContext) -> Result<Self, EngineError> {
        let limits = context.limits.shard;
        let sockets = std::mem::take(&mut context.listeners);
        let listeners = sockets.iter().map(Listener::new).collect::<io::Result<Vec<_>>>();
        let peers = |limit| RefCell::new(Peers::new(limit, limits.max_connections));
        Ok(Self {
            options: ConnectionOptions::new(&context.config),
            counters: Counters::new(Arc::clone(&context.counters.echo)),
            listeners: listeners.map_err(system("duplicating a listener"))?,
            accepting: Cell::new(sockets.len()),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            open: RefCell::default(),
            peer_tracking: PeerTracking::new(&context),
            peers: limits.max_per_ip.map(peers),
            stamper: if context.config.stamp { Some(Stamper::new(&context)?.into()) } else { None },
            descriptor_freed: Notify::new(),
            progress: Notify::new(),
            fault: Cell::new(None),
            context,
        })
    }

    /// Serves until told to stop, drains, then aborts what is left.
    pub(super) async fn serve(
        self: Rc<Self>,
        ready: &mpsc::Sender<Vec<String>>,
    ) -> Result<Stats, EngineError> {
        self.spawn_tasks()?;
        // After one turn of every task the accepts are submitted.
        yield_now().await;
        // If the receiver is gone, the server is already being stopped.
        if ready.send(Vec::new()).is_err() {
            debug!("the receiver of the ready message is gone");
        }
        self.until(|worker| worker.phase() != Phase::Serving).await;
        for listener in &self.listeners {
            listener.close_if_drained(self.phase());
        }
        let ended = self.until(|worker| worker.is_finished() || worker.phase() == Phase::Stopping);
        if timeout(self.context.config.drain_timeout, ended).await.is_err() {
            debug!("the drain timeout has passed: open connections are cut short");
        }
        self.stop();
        self.until(Self::is_finished).await;
        self.counters.publish();
        match self.fault.get() {
            Some(errno) => Err(EngineError::Listener(errno)),
            None => Ok(self.counters.stats()),
        }
    }

    fn spawn_tasks(self: &Rc<Self>) -> Result<(), EngineError> {
        let wake_fd = self.wake_fd().map_err(system("watching the wake fd"))?;
        let worker = Rc::clone(self);
        tokio_uring::spawn(async move {
            let mut turns = LoopStats::default();
            while wake_fd.readable().await.is_ok() {
                if wake_fd.try_read(&mut [0; 8]).is_ok() {
                    worker.progress.notify_one();
                    // The loop is the runtime's; what it did is not known, only that it goes on.
                    turns.record(1);
                    worker.context.counters.turns.publish(&turns);
                }
            }
        });
        for index in 0..self.listeners.len() {
            let worker = Rc::clone(self);
            tokio_uring::spawn(async move {
                worker.accept_from(&worker.listeners[index]).await;
                worker.accepting.set(worker.accepting.get() - 1);
                worker.progress.notify_one();
            });
        }
        let worker = Rc::clone(self);
        let most = self.context.limits.shard.max_connections;
        let fullness = Fullness::new(self.context.index, most);
        tokio_uring::spawn(async move { worker.counters.publish_changes(fullness).await });
        if let Some(stall) = self.context.config.stall {
            tokio_uring::spawn(keep_stalling(stall));
        }
        Ok(())
    }

    /// Accepts until the server ends or the listener becomes unusable.
    async fn accept_from(self: &Rc<Self>, listener: &Listener) {
        while !listener.close_if_drained(self.phase()) {
            let Some(permit) = self.permit().await else { return };
            // While this task waited for its permit, others may have emptied the queue.
            if listener.close_if_drained(self.phase()) {
                return;
            }
            let accepted = listener.accept().await;
            let accepted_ns = monotonic_ns();
            match accepted {
                Ok((stream, peer)) => self.start_connection(stream, peer, accepted_ns, permit),
                Err(error) => {
                    drop(permit);
                    if !self.recover_from_accept_error(&error).await {
                        return;
                    }
                }
            }
        }
    }

    /// The wake fd, readable after a change of phase. An eventfd reads like a pipe; the other type
    /// that watches a descriptor, `AsyncFd`, cannot be made without unsafe code here.
    fn wake_fd(&self) -> io::Result<Receiver> {
        let wake_fd = self.context.control.wake_fd(self.context.index).try_clone()?;
        Receiver::from_owned_fd_unchecked(wake_fd)
    }

    /// The current phase. A fault of a listener stops this worker, which stops the others.
    fn phase(&self) -> Phase {
        match self.fault.get() {
            Some(_) => Phase::Stopping,
            None => self.context.control.phase(),
        }
    }

    /// Waits until `reached` holds; tests it after every notification of `progress`.
    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            self.progress.notified().await;
        }
    }

    fn is_finished(&self) -> bool {
        self.accepting.get() == 0 && self.open.borrow().is_empty()
    }

    /// Stops accepting and aborts what is open, so that every task ends.
    fn stop(&self) {
        self.permits.close();
        for listener in &self.listeners {
            listener.close_if_drained(Phase::Stopping);
        }
        for connection in self.open.borrow().values() {
            connection.abort(&self.counters, |stats| stats.cut_short += 1);
        }
    }

    /// A permit for one more connection, as soon as there is one; `None` once the server stops.
    async fn permit(&self) -> Option<Permit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Starts the task of a connection accepted at `accepted_ns`.
    fn start_connection(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        accepted_ns: u64,
        permit: Permit,
    ) {
        self.counters.update(|stats| {
            stats.accepted += 1;
            stats.accepted_singly += 1;
        });
        let number = self.counters.stats().accepted;
        let connection = Rc::new(Connection::new(stream));
        let entry = self.admit(self.peer_tracking.record(peer));
        if entry.is_none() {
            connection.abort(&self.counters, |stats| stats.refused_by_ip += 1);
        } else if self.permits.is_closed() {
            connection.abort(&self.counters, |stats| stats.cut_short += 1);
        }
        let greeted = self.stamper.as_ref().filter(|_| entry.is_some());
        let greeting = greeted.map(|stamper| stamper.borrow_mut().next(accepted_ns));
        self.open.borrow_mut().insert(number, Rc::clone(&connection));
        let worker = Rc::clone(self);
        tokio_uring::spawn(async move {
            worker.run_connection(number, connection, greeting).await;
            worker.closed(entry);
            drop(permit);
        });
    }

    async fn run_connection(
        &self,
        number: u64,
        connection: Rc<Connection>,
        greeting: Option<[u8; FRAME_LEN]>,
    ) {
        connection.run(&self.options, &self.counters, greeting).await;
        // These are the last two references: dropping the connection closes its socket.
        self.open.borrow_mut().remove(&number);
    }

    fn closed(&self, entry: Option<PeerIndex>) {
        self.counters.update(|stats| stats.closed += 1);
        if let (Some(peers), Some(entry)) = (&self.peers, entry) {
            peers.borrow_mut().leave(entry);
        }
        self.descriptor_freed.notify_waiters();
        if self.phase() != Phase::Serving {
            self.progress.notify_one();
        }
    }

    /// Counts one more connection of `peer`; `None` if it has as many as it may.
    fn admit(&self, peer: PeerKey) -> Option<PeerIndex> {
        let Some(peers) = &self.peers else { return Some(PeerIndex::NOBODY) };
        peers.borrow_mut().admit(peer)
    }

    /// Whether to accept again after an error; waits before if the system was short of something.
    async fn recover_from_accept_error(&self, error: &io::Error) -> bool {
        match end_of(error) {
            AcceptEnd::Exhausted => {
                self.counters.update(|stats| stats.accept_exhausted += 1);
                let backoff = Duration::from_nanos(self.context.limits.shard.accept_backoff.0);
                // The accept is tried again after the back-off or a close, whichever is first.
                let (Ok(()) | Err(_)) = timeout(backoff, self.descriptor_freed.notified()).await;
            }
            AcceptEnd::Fatal if self.phase() == Phase::Serving => {
                self.fault.set(Errno::from_io_error(error));
                // Before the listener is shut down: a worker that shares it must not take that for
                // a fault.
                self.context.control.advance(Phase::Stopping);
                self.progress.notify_one();
                return false;
            }
            // A listener that was shut down, by this worker or by one that shares it.
            AcceptEnd::Fatal => return false,
            _ => self.counters.update(|stats| stats.accept_aborted += 1),
        }
        true
    }
}

/// Fault injection: blocks the whole thread for `length`, every `every`.
async fn keep_stalling(Stall { length, every }: Stall) {
    let mut at = Instant::now() + every / 2;
    loop {
        sleep_until(at).await;
        thread::sleep(length);
        at += every;
    }
}

/// Why an accept ended without a connection.
fn end_of(error: &io::Error) -> AcceptEnd {
    match Errno::from_io_error(error) {
        Some(errno) => accept_end(Err(errno)),
        // An error of the crate: the address of the accepted socket has an unknown family.
        None => AcceptEnd::Aborted,
    }
}

fn system(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| {
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        EngineError::System { step, source }
    }
}
