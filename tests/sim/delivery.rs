//! The kernel's record of what the shard has been told, which decides what it may ask for; and the
//! steps of all clients.

use uring_echo::echo::{ConnId, Event, Nanos, RecvEnd, SocketId};

use super::client::Stage;
use super::completions::OpKey;
use super::kernel::Kernel;
use super::socket::Socket;

impl Kernel {
    /// The shard is about to be given `event`.
    pub(crate) fn delivering(&mut self, op_key: OpKey, event: Event, now: Nanos) {
        match op_key {
            OpKey::Accept(number) => self.deliver_accept(number, event, now),
            OpKey::Recv(number) => self.deliver_recv(number, event, now),
            OpKey::Send(number) => match event {
                Event::Unsent { bytes, .. } => self.deliver_unsent(number, bytes, now),
                _ => self.deliver_send(number, event, now),
            },
            OpKey::Watch(number) => self.deliver_writable(number),
            OpKey::Close(number) => self.deliver_close(number),
            OpKey::Stray => self.deliver_stray(event),
        }
    }

    pub(crate) fn arrive(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.stage = Stage::Queued;
        self.listeners[client.script.listener].queue.push_back(number);
    }

    pub(crate) fn clients_arrive(&mut self) {
        for number in 0..self.clients.len() {
            if self.clients[number].stage == Stage::Away {
                self.arrive(number);
            }
        }
    }

    pub(crate) fn clients_finish(&mut self, recv_space: u32) -> bool {
        let mut active = false;
        for client in &mut self.clients {
            active |= client.finish(recv_space);
        }
        active
    }

    /// Whether every client has been served as far as possible.
    pub(crate) fn clients_served(&self, draining: bool) -> bool {
        self.clients.iter().all(|client| match client.stage {
            Stage::Over => true,
            Stage::Queued => draining || self.listeners[client.script.listener].dead,
            Stage::Away | Stage::Accepted => false,
        })
    }

    fn deliver_accept(&mut self, number: usize, event: Event, now: Nanos) {
        let (socket, address) = match event {
            Event::Accepted { socket, peer, .. } => (socket, peer),
            Event::AcceptEnded { end, .. } => {
                self.liveness.accept_end_delivered(end, now.plus(self.limits.accept_backoff));
                return self.listeners[number].end_delivered(end);
            }
            _ => unreachable!("{event:?} is not about an accept"),
        };
        self.listeners[number].accept_delivered();
        self.expected.accepted += 1;
        let full = match (self.limits.max_per_ip, address) {
            (Some(most), Some(_)) => self.connections_from(socket) >= most,
            _ => false,
        };
        self.expected.refused += u64::from(full);
        let socket = self.socket(socket);
        socket.view.active_at = now;
        socket.view.is_known = true;
        socket.view.refused = full;
    }

    fn deliver_recv(&mut self, number: usize, event: Event, now: Nanos) {
        let view = &mut self.sockets[number].as_mut().expect("the socket is open").view;
        view.woken = false;
        match event {
            Event::Received { buf, len, continues, .. } => {
                self.amid_receive = continues.then_some(number);
                view.active_at = now;
                self.expected.bytes_in += u64::from(len);
                self.memory.hand_to_shard(buf, len, Some(number));
            }
            Event::RecvEnded { end, .. } => {
                view.receiving = false;
                view.cancelling = false;
                view.starved = end == RecvEnd::NoBuffers;
                if !view.starved {
                    self.liveness.recv_end_delivered();
                }
                view.eof |= end == RecvEnd::Eof;
                view.broken |= end == RecvEnd::Failed;
            }
            _ => unreachable!("{event:?} is not about a receive"),
        }
    }

    fn deliver_send(&mut self, number: usize, event: Event, now: Nanos) {
        let view = &mut self.sockets[number].as_mut().expect("the socket is open").view;
        let what = view.sending.take().expect("a send is in flight");
        what.spans().iter().for_each(|span| self.memory.end_send(span));
        let Event::Sent { len, .. } = event else {
            view.broken = true;
            return;
        };
        if len > 0 {
            view.active_at = now;
        }
        view.taken += len;
        view.looks_first |= len < what.len();
        self.expected.bytes_out += u64::from(len);
    }

    fn deliver_writable(&mut self, number: usize) {
        let view = &mut self.sockets[number].as_mut().expect("the socket is open").view;
        view.watching = false;
        view.writable = true;
        self.liveness.writable_delivered();
    }

    fn deliver_unsent(&mut self, number: usize, bytes: Option<u32>, now: Nanos) {
        let min_drain = self.limits.min_drain;
        let view = &mut self.sockets[number].as_mut().expect("the socket is open").view;
        view.asking = false;
        view.granted_at = now;
        let read = bytes.map(|bytes| view.taken - bytes);
        let drained = read.zip(view.mark).map(|(read, mark)| read - mark);
        view.stuck = drained.is_none_or(|drained| drained < min_drain);
        view.mark = read.or(view.mark);
    }

    fn deliver_close(&mut self, number: usize) {
        let socket = self.sockets[number].take();
        let conn: Option<ConnId> = socket.and_then(|socket| socket.conn);
        self.closed_conns.extend(conn);
        self.expected.closed += 1;
        self.end_backoff();
    }

    fn deliver_stray(&mut self, event: Event) {
        self.expected.stale += 1;
        if let Event::Received { buf, len, .. } = event {
            self.memory.hand_to_shard(buf, len, None);
        }
    }

    /// How many connections from the peer of `socket` the shard counts already.
    fn connections_from(&mut self, socket: SocketId) -> u32 {
        let address = |socket: &Socket| self.clients[socket.client].script.address;
        let newcomer = self.sockets[socket.0 as usize].as_ref().expect("the socket is open");
        let counted = |socket: &&Socket| socket.view.is_known && !socket.view.refused;
        let known = self.sockets.iter().flatten().filter(counted);
        let same = known.filter(|known| address(known) == address(newcomer)).count();
        u32::try_from(same).expect("few sockets")
    }
}
