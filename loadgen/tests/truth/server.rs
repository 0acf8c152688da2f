//! A server of plain blocking calls that sleeps a known time before each accept and records when it
//! accepted.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use uring_echo::clock::monotonic_ns;

use crate::stamp::stamp;

/// One accept as the server knows it, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accept {
    /// The connection was in the queue by now.
    pub(crate) queued_ns: u64,
    /// accept was called.
    pub(crate) called_ns: u64,
    /// accept had returned; the stamp says this instant.
    pub(crate) returned_ns: u64,
}

/// How long the server sleeps before the accept of this number.
pub(crate) type Pause = fn(usize) -> Duration;

/// What it does with the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Nothing.
    Silence,
    /// A stamp.
    Stamp,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    serving: JoinHandle<Vec<Accept>>,
}

impl Server {
    /// Accepts this many, one after the other, and fewer if none comes for a while; keeps them open
    /// until it ends.
    pub(crate) fn start(count: usize, pause: Pause, greeting: Greeting) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(4096).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let serving = thread::spawn(move || {
            let mut record = Vec::with_capacity(count);
            let mut streams = Vec::with_capacity(count);
            while record.len() < count && is_queued(&listener) {
                let queued_ns = monotonic_ns();
                thread::sleep(pause(record.len()));
                let called_ns = monotonic_ns();
                let (mut stream, _) = listener.accept().unwrap();
                let returned_ns = monotonic_ns();
                if greeting == Greeting::Stamp {
                    stream.write_all(&stamp(returned_ns)).unwrap();
                }
                streams.push(stream);
                record.push(Accept { queued_ns, called_ns, returned_ns });
                counter.fetch_add(1, Ordering::Relaxed);
            }
            record
        });
        Self { addr, accepted, serving }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Its record, in the order of the queue, once it has ended.
    pub(crate) fn record(self) -> Vec<Accept> {
        self.serving.join().unwrap()
    }
}

/// Whether a connection is in the queue, or comes soon.
fn is_queued(listener: &Socket) -> bool {
    let patience = Timespec { tv_sec: 3, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&patience)) {
            Err(Errno::INTR) => {}
            ready => return ready.unwrap() > 0,
        }
    }
}
