//! The loop over a transport that lets a test decide how long a call takes.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use uring_echo::ring::Token;
use uring_echo::stamp::ClockDomain;

use super::super::GeneratorPlan;
use super::super::exchange::Exchange;
use super::super::recorder::Recording;
use super::super::transport::TransportSpec;
use super::*;
use crate::generate::connection::Method;
use crate::model::outcome::Phase;
use crate::plan::schedule::PlanShare;
use crate::testing::config;

/// A kernel in which a connect takes [`CONNECT_NS`], what comes after it a while, and a send
/// [`SEND`]; all echoes come together, after the last send.
#[derive(Debug)]
struct SlowSends {
    payload: Vec<u8>,
    messages: VecDeque<(SlotId, Range<usize>)>,
    /// Sends that the kernel was not told of yet.
    queued: Vec<(SlotId, Range<usize>)>,
    completions: VecDeque<Completion>,
    /// Connects that have completed, until all were called.
    connected: Vec<SlotId>,
    buffers: Vec<Range<usize>>,
}

impl SlowSends {
    fn completion(op: Op, id: SlotId, len: usize, buffer: Option<u16>) -> Completion {
        let token = Token::new(op, id.index(), id.generation());
        let result = Ok(u32::try_from(len).unwrap());
        Completion { token, result, buffer, more: false, continues: false }
    }

    /// Every message was sent: the echoes are there at once.
    fn echo_all(&mut self) {
        for (id, bytes) in self.messages.drain(..) {
            let buffer = u16::try_from(self.buffers.len()).unwrap();
            let received = Self::completion(Op::Recv, id, bytes.len(), Some(buffer));
            self.buffers.push(bytes);
            self.completions.push_back(received);
        }
    }
}

impl Transport for SlowSends {
    const NONBLOCKING: bool = true;

    fn new(spec: &TransportSpec<'_>) -> Result<Self, GenerateError> {
        Ok(Self {
            payload: spec.payload.to_vec(),
            messages: VecDeque::new(),
            queued: Vec::new(),
            completions: VecDeque::new(),
            connected: Vec::new(),
            buffers: Vec::new(),
        })
    }

    fn degraded(&self) -> &[String] {
        &[]
    }

    fn connect(&mut self, id: SlotId, socket: OwnedFd) -> Result<CallSpan, GenerateError> {
        drop(socket);
        self.connected.push(id);
        if self.connected.len() == CONNECTIONS {
            let all = self.connected.drain(..);
            self.completions.extend(all.map(|id| Self::completion(Op::Connect, id, 0, None)));
        }
        let asked_ns = monotonic_ns();
        let called_ns = asked_ns - CONNECT_NS;
        // What the loop does before it looks at the clock again.
        thread::sleep(BOOKKEEPING);
        Ok(CallSpan { called_ns, returned_ns: asked_ns, asked_ns })
    }

    fn handshake(&self, _: SlotId) -> Handshake {
        Handshake::Over
    }

    fn await_connect(&mut self, _: SlotId) {}

    fn receive(&mut self, _: SlotId) {}

    fn send(&mut self, id: SlotId, bytes: Range<usize>) {
        self.queued.push((id, bytes));
    }

    fn cancel(&mut self, id: SlotId) {
        let token = Token::new(Op::Recv, id.index(), id.generation());
        let result = Err(Errno::CANCELED);
        self.completions.push_back(Completion {
            token,
            result,
            buffer: None,
            more: false,
            continues: false,
        });
    }

    fn close(&mut self, _: SlotId) {}

    fn local_addr(&self, _: SlotId) -> Option<SocketAddr> {
        None
    }

    fn submit(&mut self) -> Result<(), GenerateError> {
        for (id, bytes) in self.queued.drain(..) {
            thread::sleep(SEND);
            self.completions.push_back(Self::completion(Op::Send, id, bytes.len(), None));
            self.messages.push_back((id, bytes));
        }
        if self.messages.len() == CONNECTIONS {
            self.echo_all();
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), GenerateError> {
        self.submit()
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) {
        batch.extend(self.completions.drain(..));
    }

    fn wait(&mut self, _: Duration) -> Result<(), GenerateError> {
        Ok(())
    }

    fn bytes(&self, buffer: u16, _: u32) -> &[u8] {
        &self.payload[self.buffers[usize::from(buffer)].clone()]
    }

    fn release(&mut self, _: u16) {}
}

/// What a run of [`CONNECTIONS`] with an echo each recorded.
fn run() -> Recording {
    let args = format!("--burst {CONNECTIONS} --size 64 --max-in-flight {CONNECTIONS}");
    let plan = GeneratorPlan {
        config: config(&args),
        target: SocketAddr::from(([127, 0, 0, 1], 9)),
        method: Method::None,
        messages: 1,
        clock_domain: ClockDomain(1),
        clock_offset: None,
        cpus: Vec::new(),
        yields: true,
    };
    let (filled, recorded) = mpsc::sync_channel(8);
    let (_, spares) = mpsc::sync_channel(1);
    let part = Part {
        share: PlanShare::WHOLE,
        exchange: Exchange { thread: 0, filled, spares, next_ns: 0 },
        shared: Shared::of(&plan.config),
        stop: Arc::default(),
    };
    EventLoop::<SlowSends>::new(&plan, part).unwrap().run(monotonic_ns()).unwrap();
    recorded.recv().unwrap().interval
}

/// Sends that follow from one batch enter the kernel one after the other. A round trip that began
/// when the batch was handled would hold the sends of all others.
#[test]
fn a_round_trip_begins_when_its_own_send_enters_the_kernel() {
    let recorded = run();
    assert_eq!(recorded.counts().outcome(Outcome::Completed), CONNECTIONS as u64);
    let round_trips = recorded.histogram(Phase::EchoRtt);
    assert_eq!(round_trips.len(), CONNECTIONS as u64);
    let spread = round_trips.max() - round_trips.min();
    let apart = u64::try_from(SEND.as_nanos()).unwrap() * (CONNECTIONS as u64 - 1);
    assert!(spread >= apart / 100 * 99, "{spread} of {apart}: they began together");
}

/// Connects take what the kernel took, however long the loop is busy afterwards.
#[test]
fn a_connect_ends_before_any_bookkeeping() {
    let connects = run().histogram(Phase::Connect).clone();
    assert_eq!(connects.len(), CONNECTIONS as u64);
    // The last call brings the completions of all: for it alone the end is its own.
    assert!(connects.equivalent(connects.min(), CONNECT_NS), "{}", connects.min());
}

const CONNECTIONS: usize = 8;
const CONNECT_NS: u64 = 20_000;
const BOOKKEEPING: Duration = Duration::from_millis(1);
const SEND: Duration = Duration::from_millis(2);
