//! The stamp frames with which a worker greets its connections.

use super::context::WorkerContext;
use super::error::EngineError;
use crate::clock::realtime_ns;
use crate::stamp::{ClockDomain, FRAME_LEN, Stamp};

/// Makes the stamp frames of one worker.
pub(super) struct Stamper {
    stamp: Stamp,
}

impl Stamper {
    pub(super) fn new(context: &WorkerContext) -> Result<Self, EngineError> {
        Ok(Self {
            stamp: Stamp {
                worker: u16::try_from(context.index).unwrap_or(u16::MAX),
                engine: context.config.engine,
                accept: context.config.accept,
                accepted_monotonic_ns: 0,
                accepted_realtime_ns: 0,
                sequence: 0,
                clock_domain: ClockDomain::current().map_err(EngineError::ClockDomain)?,
            },
        })
    }

    /// The frame of the next connection, accepted at `accepted_ns`.
    pub(super) fn next(&mut self, accepted_ns: u64) -> [u8; FRAME_LEN] {
        self.stamp.accepted_monotonic_ns = accepted_ns;
        self.stamp.accepted_realtime_ns = realtime_ns();
        let frame = self.stamp.encode();
        self.stamp.sequence += 1;
        frame
    }
}
