//! What a shard has done so far, in plain counters that only ever grow.

use std::iter::Sum;
use std::ops::Add;

/// Counters of one [`Shard`](super::Shard). One writer; an engine copies them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections taken from the kernel, refused ones included.
    pub accepted: u64,
    /// Connections whose socket is closed; `accepted - closed` are open.
    pub closed: u64,
    /// Connections that ended in order: the peer ended its stream and got everything owed.
    pub finished: u64,
    /// Connections the peer broke off.
    pub reset: u64,
    /// Connections closed on arrival because their peer had as many as it may.
    pub refused_by_ip: u64,
    /// Connections closed for moving no byte either way.
    pub idle_timeouts: u64,
    /// Connections closed because the peer read too little within the write timeout.
    pub write_timeouts: u64,
    /// Connections closed because the pool was empty and they had held buffers for longest.
    pub evicted: u64,
    /// Connections closed because an event contradicted what was known of them: a defect.
    pub slips: u64,
    /// Connections closed by a stop or by the end of a drain.
    pub cut_short: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took for sending, greetings included.
    pub bytes_out: u64,
    /// Sends asked for.
    pub sends: u64,
    /// Sends that the socket had no room for, or not for all of it.
    pub stalls: u64,
    /// Pieces copied behind bytes already waiting, instead of occupying a buffer each.
    pub gathered: u64,
    /// Times a connection had to wait for a buffer.
    pub parked: u64,
    /// Times a connection's receive was stopped at its credit.
    pub credit_stops: u64,
    /// Accepts that ended with the one connection that they brought; few where an accept is made
    /// once and brings many.
    pub accepted_singly: u64,
    /// Accepts that found the system short of something.
    pub accept_exhausted: u64,
    /// Pending connections that went away before they were taken.
    pub accept_aborted: u64,
    /// Events that named a connection already gone.
    pub stale: u64,
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            closed: self.closed + other.closed,
            finished: self.finished + other.finished,
            reset: self.reset + other.reset,
            refused_by_ip: self.refused_by_ip + other.refused_by_ip,
            idle_timeouts: self.idle_timeouts + other.idle_timeouts,
            write_timeouts: self.write_timeouts + other.write_timeouts,
            evicted: self.evicted + other.evicted,
            slips: self.slips + other.slips,
            cut_short: self.cut_short + other.cut_short,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            sends: self.sends + other.sends,
            stalls: self.stalls + other.stalls,
            gathered: self.gathered + other.gathered,
            parked: self.parked + other.parked,
            credit_stops: self.credit_stops + other.credit_stops,
            accepted_singly: self.accepted_singly + other.accepted_singly,
            accept_exhausted: self.accept_exhausted + other.accept_exhausted,
            accept_aborted: self.accept_aborted + other.accept_aborted,
            stale: self.stale + other.stale,
        }
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
