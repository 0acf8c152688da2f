//! How operations on sockets advance: receives, sends and closes.

use uring_echo::echo::{ConnId, Event, RecvEnd};

use super::client::{Client, Stage};
use super::completions::OpKey;
use super::kernel::Kernel;
use super::random::Random;
use super::socket::{Payload, RecvOp, SendOp, Socket};

impl Kernel {
    /// Advances or ends the receive. False if there is nothing to do.
    pub(crate) fn work_recv(&mut self, number: usize, random: &mut Random) -> bool {
        let Some((socket, conn)) = self.open(number) else { return false };
        let Some(recv) = socket.recv else { return false };
        let client = &self.clients[socket.client];
        let waiting = client.sent - client.taken;
        let end = if client.reset {
            Some(RecvEnd::Failed)
        } else if recv.cancelled && (waiting == 0 || random.chance(500)) {
            Some(RecvEnd::Cancelled)
        } else if self.memory.is_empty() && (waiting > 0 || recv.fresh) {
            Some(RecvEnd::NoBuffers)
        } else if waiting > 0 {
            random.chance(self.faults.no_buffers).then_some(RecvEnd::NoBuffers)
        } else if client.fin {
            Some(RecvEnd::Eof)
        } else {
            return self.look_once(number, recv);
        };
        match end {
            Some(end) => self.end_recv(number, conn, end),
            None => self.receive(number, conn, waiting, random),
        }
        true
    }

    /// Completes the send, as far as there is room. False if there is none.
    pub(crate) fn work_send(&mut self, number: usize, random: &mut Random) -> bool {
        let Some((socket, conn)) = self.open(number) else { return false };
        let Some(SendOp { cancelled, what }) = socket.send.filter(|_| !socket.asked) else {
            return false;
        };
        let client = &self.clients[socket.client];
        let failed = client.reset || random.chance(self.faults.failed_send);
        if failed || (cancelled && random.chance(500)) {
            self.end_send(number, Event::SendFailed { conn });
            return true;
        }
        let space = self.send_space.saturating_sub(client.unread);
        let most = what.len().min(space);
        if most == 0 || random.chance(self.faults.zero_send) {
            self.end_send(number, Event::Sent { conn, len: 0 });
            return true;
        }
        let short = random.chance(self.faults.short_send);
        let len = if short { random.range(1, most) } else { most };
        self.transmit(number, &what, len);
        self.end_send(number, Event::Sent { conn, len });
        true
    }

    /// Ends the wait for room. False if there is none, or no room.
    pub(crate) fn work_watch(&mut self, number: usize, random: &mut Random) -> bool {
        let Some((socket, conn)) = self.open(number) else { return false };
        let Some(watch) = socket.watch else { return false };
        let client = &self.clients[socket.client];
        let ends = watch.cancelled || client.reset || client.unread < self.send_space;
        if !ends && !random.chance(self.faults.early_writable) {
            return false;
        }
        self.sockets[number].as_mut().expect("the socket is open").watch = None;
        self.completions.push(OpKey::Watch(number), Event::Writable { conn });
        true
    }

    /// Tells how many bytes are unsent. False if nobody asked.
    pub(crate) fn work_question(&mut self, number: usize, random: &mut Random) -> bool {
        let Some((socket, conn)) = self.open(number) else { return false };
        if !socket.asked {
            return false;
        }
        let unread = self.clients[socket.client].unread;
        let bytes = (!random.chance(self.faults.unsent_unknown)).then_some(unread);
        self.sockets[number].as_mut().expect("the socket is open").asked = false;
        self.completions.push(OpKey::Send(number), Event::Unsent { conn, bytes });
        true
    }

    pub(crate) fn work_close(&mut self, number: usize) -> bool {
        let Some((socket, conn)) = self.open(number) else { return false };
        if socket.close.is_none() {
            return false;
        }
        let client = socket.client;
        self.clients[client].stage = Stage::Over;
        self.sockets[number].as_mut().expect("the socket is open").close = None;
        self.completions.push(OpKey::Close(number), Event::Closed { conn });
        true
    }

    fn open(&self, number: usize) -> Option<(&Socket, ConnId)> {
        let socket = self.sockets.get(number)?.as_ref()?;
        Some((socket, socket.conn?))
    }

    fn look_once(&mut self, number: usize, recv: RecvOp) -> bool {
        let socket = self.sockets[number].as_mut().expect("the socket is open");
        socket.recv = Some(RecvOp { fresh: false, ..recv });
        recv.fresh
    }

    fn receive(&mut self, number: usize, conn: ConnId, waiting: u32, random: &mut Random) {
        let socket = self.sockets[number].as_mut().expect("the socket is open");
        let recv = socket.recv.as_mut().expect("a receive is armed");
        if random.chance(self.faults.oversized_recv) {
            recv.left = u32::MAX;
        }
        let is_bundle = random.chance(self.faults.bundled_recv);
        let buffers = if is_bundle { random.range(1, 5) } else { 1 };
        let most = waiting.min(self.memory.size() * buffers).min(recv.left);
        let short = random.chance(self.faults.short_recv);
        let len = if short { random.range(1, most) } else { most };
        recv.fresh = false;
        let (client, limit) = (socket.client, recv.left);
        let taken = self.fill(number, client, conn, len);
        let is_complete = taken == limit;
        let recv = &mut self.sockets[number].as_mut().expect("the socket is open").recv;
        recv.as_mut().expect("a receive is armed").left -= taken;
        let full = self.completions.len() >= self.limits.accept_burst as usize * 4;
        if is_complete || full || random.chance(self.faults.recv_ends) {
            self.end_recv(number, conn, RecvEnd::Complete);
        }
    }

    /// Fills buffers with the client's next `len` bytes while there are any; how many it took.
    fn fill(&mut self, number: usize, client: usize, conn: ConnId, len: u32) -> u32 {
        let client = &mut self.clients[client];
        let mut left = len;
        loop {
            let part = left.min(self.memory.size());
            let (who, first) = (client.number, client.taken);
            client.taken += part;
            left -= part;
            let buf = self.memory.fill(part, |nth| Client::byte(who, first + nth));
            let continues = left > 0 && !self.memory.is_empty();
            let event = Event::Received { conn, buf, len: part, continues };
            self.completions.push(OpKey::Recv(number), event);
            if !continues {
                return len - left;
            }
            self.liveness.bundles += 1;
        }
    }

    fn end_recv(&mut self, number: usize, conn: ConnId, end: RecvEnd) {
        self.sockets[number].as_mut().expect("the socket is open").recv = None;
        self.completions.push(OpKey::Recv(number), Event::RecvEnded { conn, end });
    }

    fn end_send(&mut self, number: usize, event: Event) {
        self.sockets[number].as_mut().expect("the socket is open").send = None;
        self.completions.push(OpKey::Send(number), event);
    }

    /// The first `len` bytes of `what` leave: are they the next ones of the client's stream?
    fn transmit(&mut self, number: usize, what: &Payload, mut len: u32) {
        let socket = self.sockets[number].as_ref().expect("the socket is open");
        let client = &mut self.clients[socket.client];
        client.unread += len;
        if let Payload::Greeting { offset, len: whole } = *what {
            assert_eq!((offset, offset + whole), (client.greeted, self.limits.greeting));
            client.greeted += len;
            return;
        }
        assert_eq!(client.greeted, self.limits.greeting, "an echo overtakes the greeting");
        for span in what.spans() {
            for nth in 0..span.len.min(len) {
                let expected = Client::byte(client.number, client.echoed);
                assert!(client.echoed < client.taken, "more comes back than was sent");
                assert_eq!(self.memory.transmit(span, nth), expected, "a wrong byte comes back");
                client.echoed += 1;
            }
            len -= span.len.min(len);
        }
    }
}
