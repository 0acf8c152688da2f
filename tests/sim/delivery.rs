//! What the kernel remembers of what the shard has been told, to know what it may be asked for;
//! and how the crowd of clients moves.

use uring_echo::echo::{ConnId, Event, Nanos, RecvEnd, SocketId};

use super::client::Stage;
use super::completions::Lane;
use super::kernel::Kernel;
use super::socket::Socket;

impl Kernel {
    /// The shard is about to be told `event`.
    pub(crate) fn hear(&mut self, lane: Lane, event: Event, now: Nanos) {
        match lane {
            Lane::Accept(number) => self.hear_of_accept(number, event, now),
            Lane::Recv(number) => self.hear_of_recv(number, event, now),
            Lane::Send(number) => self.hear_of_send(number, event, now),
            Lane::Close(number) => self.hear_of_close(number),
            Lane::Stray => self.hear_of_stray(event),
        }
    }

    pub(crate) fn arrive(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.stage = Stage::Queued;
        self.listeners[client.plan.listener].queue.push_back(number);
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

    /// Whether every client got what it can get.
    pub(crate) fn is_over(&self, draining: bool) -> bool {
        self.clients.iter().all(|client| match client.stage {
            Stage::Over => true,
            Stage::Queued => draining || self.listeners[client.plan.listener].dead,
            Stage::Away | Stage::Accepted => false,
        })
    }

    fn hear_of_accept(&mut self, number: usize, event: Event, now: Nanos) {
        let (socket, address) = match event {
            Event::Accepted { socket, peer, .. } => (socket, peer),
            Event::AcceptEnded { end, .. } => {
                self.watch.heard_of_accept_end(end, now.plus(self.limits.accept_backoff));
                return self.listeners[number].heard_of_end(end);
            }
            _ => unreachable!("{event:?} is not about an accept"),
        };
        self.listeners[number].heard_of_one();
        self.tally.accepted += 1;
        let full = match (self.limits.max_per_ip, address) {
            (Some(most), Some(_)) => self.known_from(socket) >= most,
            _ => false,
        };
        self.tally.refused += u64::from(full);
        let socket = self.socket(socket);
        socket.seen.active_at = now;
        socket.seen.heard_of = true;
        socket.seen.refused = full;
    }

    fn hear_of_recv(&mut self, number: usize, event: Event, now: Nanos) {
        let seen = &mut self.sockets[number].as_mut().expect("the socket is open").seen;
        match event {
            Event::Received { buf, len, .. } => {
                seen.active_at = now;
                seen.held += 1;
                self.tally.bytes_in += u64::from(len);
                self.memory.hand_over(buf, Some(number));
            }
            Event::RecvEnded { end, .. } => {
                seen.receiving = false;
                seen.cancelling = false;
                seen.starved = end == RecvEnd::NoBuffers;
                if !seen.starved {
                    self.watch.heard_of_recv_end();
                }
                seen.eof |= end == RecvEnd::Eof;
                seen.broken |= end == RecvEnd::Failed;
            }
            _ => unreachable!("{event:?} is not about a receive"),
        }
    }

    fn hear_of_send(&mut self, number: usize, event: Event, now: Nanos) {
        let seen = &mut self.sockets[number].as_mut().expect("the socket is open").seen;
        let what = seen.sending.take().expect("a send is in flight");
        what.spans().iter().for_each(|span| self.memory.end_send(span));
        match event {
            Event::Sent { len, .. } if len > 0 => {
                seen.active_at = now;
                self.tally.bytes_out += u64::from(len);
            }
            _ => seen.broken = true,
        }
    }

    fn hear_of_close(&mut self, number: usize) {
        let socket = self.sockets[number].take();
        let conn: Option<ConnId> = socket.and_then(|socket| socket.conn);
        self.past.extend(conn);
        self.tally.closed += 1;
        self.end_backoff();
    }

    fn hear_of_stray(&mut self, event: Event) {
        self.tally.stale += 1;
        if let Event::Received { buf, .. } = event {
            self.memory.hand_over(buf, None);
        }
    }

    /// How many connections from where `socket` came from the shard counts already.
    fn known_from(&mut self, socket: SocketId) -> u32 {
        let address = |socket: &Socket| self.clients[socket.client].plan.address;
        let newcomer = self.sockets[socket.0 as usize].as_ref().expect("the socket is open");
        let counted = |socket: &&Socket| socket.seen.heard_of && !socket.seen.refused;
        let known = self.sockets.iter().flatten().filter(counted);
        let same = known.filter(|known| address(known) == address(newcomer)).count();
        u32::try_from(same).expect("few sockets")
    }
}
