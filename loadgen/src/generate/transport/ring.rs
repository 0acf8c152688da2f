//! io_uring: operations are submitted, the kernel carries them out.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use uring_echo::clock::monotonic_ns;
use uring_echo::ring::{Completion, Handle, Op, Ring, Setup};

use super::{BUFFERS, CallSpan, Handshake, Transport, TransportSpec, local_addr, token};
use crate::generate::GenerateError;
use crate::generate::table::SlotId;

/// A ring and the sockets it works on.
#[derive(Debug)]
pub(in crate::generate) struct RingTransport {
    ring: Ring,
    target: SocketAddr,
    /// By slot.
    sockets: Box<[Option<Arc<OwnedFd>>]>,
}

impl Transport for RingTransport {
    /// A ring passes EAGAIN on where a socket is non-blocking, instead of waiting.
    const NONBLOCKING: bool = false;

    fn new(spec: &TransportSpec<'_>) -> Result<Self, GenerateError> {
        let mut ring = Ring::new(&setup(spec))?;
        ring.stage(0, spec.payload);
        let sockets = (0..spec.slots).map(|_| None).collect();
        Ok(Self { ring, target: spec.target, sockets })
    }

    fn degraded(&self) -> &[String] {
        self.ring.degraded()
    }

    /// Whatever else is queued enters before the clock is read.
    fn connect(&mut self, id: SlotId, socket: OwnedFd) -> Result<CallSpan, GenerateError> {
        let socket = Arc::new(socket);
        self.ring.poll()?;
        self.ring.connect(Handle::File(&socket), self.target, token(Op::Connect, id));
        let called_ns = monotonic_ns();
        self.ring.poll()?;
        let returned_ns = monotonic_ns();
        self.sockets[id.index() as usize] = Some(socket);
        Ok(CallSpan { called_ns, returned_ns, asked_ns: returned_ns })
    }

    fn handshake(&self, id: SlotId) -> Handshake {
        Handshake::of(socket(&self.sockets, id))
    }

    fn await_connect(&mut self, id: SlotId) {
        self.ring.await_connect(socket(&self.sockets, id), token(Op::Connect, id));
    }

    fn receive(&mut self, id: SlotId) {
        self.ring.receive_one(handle(&self.sockets, id), token(Op::Recv, id));
    }

    fn send(&mut self, id: SlotId, bytes: Range<usize>) {
        let len = u32::try_from(bytes.len()).expect("a message is shorter than 4 GiB");
        let socket = handle(&self.sockets, id);
        self.ring.send_staged(socket, bytes.start, len, token(Op::Send, id));
    }

    fn cancel(&mut self, id: SlotId) {
        for op in [Op::Connect, Op::Recv, Op::Send] {
            self.ring.cancel(token(op, id), token(Op::Cancel, id));
        }
    }

    /// The ring keeps the socket open until it has handed a cancellation over.
    fn close(&mut self, id: SlotId) {
        self.sockets[id.index() as usize] = None;
    }

    fn local_addr(&self, id: SlotId) -> Option<SocketAddr> {
        local_addr(self.sockets[id.index() as usize].as_ref()?)
    }

    fn submit(&mut self) -> Result<(), GenerateError> {
        Ok(self.ring.poll()?)
    }

    fn poll(&mut self) -> Result<(), GenerateError> {
        Ok(self.ring.poll()?)
    }

    fn reap(&mut self, batch: &mut Vec<Completion>) {
        self.ring.reap(batch);
    }

    fn wait(&mut self, limit: Duration) -> Result<(), GenerateError> {
        Ok(self.ring.wait(Some(limit))?)
    }

    fn bytes(&self, buffer: u16, len: u32) -> &[u8] {
        self.ring.bytes(buffer, len)
    }

    fn release(&mut self, buffer: u16) {
        self.ring.release(buffer);
    }
}

fn handle(sockets: &[Option<Arc<OwnedFd>>], id: SlotId) -> Handle<'_> {
    Handle::File(socket(sockets, id))
}

fn socket(sockets: &[Option<Arc<OwnedFd>>], id: SlotId) -> &Arc<OwnedFd> {
    sockets[id.index() as usize].as_ref().expect("a connection has a socket")
}

fn setup(spec: &TransportSpec<'_>) -> Setup {
    Setup {
        submissions: 256,
        completions: spec.slots.saturating_mul(2).clamp(1024, 16_384),
        buffers: BUFFERS,
        buffer_size: spec.buffer_size(),
        direct: 0,
        staging: spec.payload.len(),
        listeners: 0,
        peers: false,
        napi: None,
        restricted: false,
    }
}
