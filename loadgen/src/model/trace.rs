//! One connection as both of its ends and the kernel between them saw it.

use serde::{Deserialize, Serialize};

/// The part of a result that only `loadgen trace` has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What `listen` was given; absent for a server that was already there.
    pub backlog: Option<u32>,
    /// The effective limit of the accept queue, min(backlog, somaxconn); absent for a listener
    /// that is not visible. The kernel lets one connection more in.
    pub queue_limit: Option<u32>,
    /// Connections in the accept queue before this one.
    pub queued_before: u32,
    /// How long the server was told to wait before it accepts.
    pub hold_ns: u64,
    /// The longest time between two looks at the server's end until it was seen in the accept
    /// queue: what lasts less may go unseen.
    pub look_gap_ns: Option<u64>,
    /// What happened, ascending.
    pub steps: Vec<Step>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub side: Side,
    /// What.
    pub event: Event,
    /// When, from the call of connect; negative before it.
    pub at_ns: i64,
    /// How long the call took, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ns: Option<u64>,
    /// For what was seen by looking: the time since the look before, which did not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_within_ns: Option<u64>,
    /// How many bytes, connections or retransmissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The program that connects.
    Client,
    /// The kernel at the server's end, which shakes hands for the server.
    Kernel,
    /// The program that accepts.
    Server,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// socket(2) made a socket.
    Socket,
    /// bind(2) gave it an address.
    Bind,
    /// listen(2) made it a listener, with its accept queue.
    Listen,
    /// `count` other connections were put into the accept queue.
    Queued,
    /// The server called accept(2), with nothing there to take.
    AcceptCalled,
    /// The server does something else for a while.
    HoldBegan,
    /// connect(2) was called; the client's SYN goes out.
    ConnectCalled,
    /// The SYN is in the SYN queue: the handshake is not over.
    SynQueue,
    /// The client sent its SYN again, for the `count`th time.
    SynRetransmitted,
    /// The handshake is over and the connection waits in the accept queue, `count` with it.
    AcceptQueue,
    /// connect(2) returned.
    Established,
    /// accept(2) returned the connection.
    Accepted,
    /// The client sent `count` bytes.
    Sent,
    /// The server read `count` bytes.
    Received,
    /// The server sent `count` bytes back.
    EchoSent,
    /// The first byte from the server is there.
    FirstByte,
    /// The last byte is there and equals what was sent.
    Echoed,
    /// The server answered with `count` bytes that are no echo, none if it said nothing.
    Answered,
    /// close(2) of this side.
    Closed,
}

impl Trace {
    /// The first step of this kind.
    pub fn step(&self, event: Event) -> Option<&Step> {
        self.steps.iter().find(|step| step.event == event)
    }

    /// When it happened first, from the call of connect; `None` also if that was before the call.
    pub fn since_connect_ns(&self, event: Event) -> Option<u64> {
        self.step(event).and_then(|step| u64::try_from(step.at_ns).ok())
    }

    /// How often the client had to send its SYN again.
    pub fn syn_retransmissions(&self) -> u64 {
        let again = self.steps.iter().filter(|step| step.event == Event::SynRetransmitted);
        again.filter_map(|step| step.count).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(event: Event, at_ns: i64, count: Option<u64>) -> Step {
        let side = Side::Client;
        Step { side, event, at_ns, took_ns: None, seen_within_ns: None, count }
    }

    #[test]
    fn delays_count_from_the_call_of_connect() {
        let steps = vec![step(Event::Socket, -5, None), step(Event::Established, 70, None)];
        let trace = Trace { steps, ..Trace::default() };
        assert_eq!(trace.since_connect_ns(Event::Established), Some(70));
        assert_eq!(trace.since_connect_ns(Event::Socket), None);
        assert_eq!(trace.since_connect_ns(Event::Accepted), None);
    }

    #[test]
    fn the_last_retransmission_has_the_count() {
        let again = |at, count| step(Event::SynRetransmitted, at, Some(count));
        let trace = Trace { steps: vec![again(1, 1), again(2, 2)], ..Trace::default() };
        assert_eq!(trace.syn_retransmissions(), 2);
        assert_eq!(Trace::default().syn_retransmissions(), 0);
    }
}
