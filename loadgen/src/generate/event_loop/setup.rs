//! Everything a generator thread allocates, sized by the plan.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::exchange::Exchange;
use super::super::sockets::{PREPARED_MAX, SocketSpec, Sockets};
use super::super::table::Table;
use super::super::transport::TransportSpec;
use super::super::{GenerateError, GeneratorPlan};
use super::watching::SAMPLES_PER_TURN;
use super::{BATCH, EventLoop, Transport};
use crate::generate::attempt_recorder::AttemptRecorder;
use crate::generate::connection::{Method, Script};
use crate::observe::DiagWatch;
use crate::plan::arrivals::ThreadArrivals;
use crate::plan::config::Shape;
use crate::plan::payload::Payload;
use crate::plan::schedule::ThreadShare;
use crate::plan::sources::Sources;
use crate::sys::time::nanos;

impl<T: Transport> EventLoop<T> {
    /// For the thread `share` of `plan`, on the thread that will run it.
    pub(in crate::generate) fn new(
        plan: &GeneratorPlan,
        share: ThreadShare,
        exchange: Exchange,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, GenerateError> {
        let config = &plan.config;
        let slots = slots(plan, share);
        let payload = Payload::new(config.size, config.seed);
        let transport = T::new(&TransportSpec {
            target: plan.target,
            slots,
            payload: payload.block(),
            message: payload.size(),
        })?;
        let watch = match plan.method {
            Method::Diag => Some(DiagWatch::open(slots).map_err(GenerateError::Diag)?),
            Method::Stamp | Method::None => None,
        };
        let spec = SocketSpec {
            target: plan.target,
            close: config.close,
            talks: plan.messages > 0,
            nonblocking: T::NONBLOCKING,
            sources: Sources::expand(&config.sources).starting_at(share.index.into()),
        };
        let mut sockets = Sockets::new(spec, slots, stock(plan, share));
        while sockets.prepare_one(0) {}
        let (messages, method, clock_domain) = (plan.messages, plan.method, plan.clock_domain);
        Ok(Self {
            target: plan.target,
            timeout_ns: nanos(config.timeout),
            yields: plan.yields,
            stop,
            script: Script { payload, messages, method, clock_domain },
            transport,
            batch: Vec::with_capacity(BATCH),
            completions: VecDeque::with_capacity(slots as usize * COMPLETIONS_EACH),
            watch,
            seen: Vec::with_capacity(SAMPLES_PER_TURN as usize),
            arrivals: ThreadArrivals::new(config, share, slots),
            launches_per_turn: match config.shape {
                Shape::Burst { .. } => BURST_PER_TURN,
                Shape::Rate { .. } | Shape::Closed { .. } => 1,
            },
            sockets,
            table: Table::new(slots),
            recorder: AttemptRecorder::new(config.warmup, plan.method != Method::None),
            exchange,
            number: u64::from(share.index) << 48,
            last_activity_ns: 0,
            interrupted: false,
        })
    }
}

/// The thread's share of the connections that may be open at once.
fn slots(plan: &GeneratorPlan, share: ThreadShare) -> u32 {
    let slots = share.of_total(plan.config.max_in_flight.into());
    u32::try_from(slots).unwrap_or(u32::MAX).max(1)
}

/// Sockets to have ready: a whole burst, else enough for a busy moment.
fn stock(plan: &GeneratorPlan, share: ThreadShare) -> u32 {
    let burst = share.of_total(plan.config.shape.at_once().into());
    u32::try_from(burst).unwrap_or(u32::MAX).max(PREPARED_MAX)
}

/// Connects of a burst before anything else is done. At a rate it is one: if there is more to do
/// than there is time for, lateness shows it, and not connections that are never attended to.
const BURST_PER_TURN: u32 = 1024;
/// Completions one connection may have outstanding: connect, then a receive, two sends and a
/// cancellation.
const COMPLETIONS_EACH: usize = 4;
