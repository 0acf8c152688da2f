//! Everything a generator thread allocates, sized by the plan.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::exchange::Exchange;
use super::super::open_connections::OpenConnections;
use super::super::sockets::{PREPARED_MAX, SocketSpec, Sockets};
use super::super::table::Table;
use super::super::transport::TransportSpec;
use super::super::{GenerateError, GeneratorPlan};
use super::giving_way::GivingWay;
use super::idle::Idling;
use super::inquest::Inquest;
use super::watching::SAMPLES_PER_TURN;
use super::{BATCH, EventLoop, Transport};
use crate::generate::attempt_recorder::AttemptRecorder;
use crate::generate::connection::{Method, Script};
use crate::observe::{DiagWatch, Patience};
use crate::plan::arrivals::{ArrivalsLeft, ThreadArrivals};
use crate::plan::config::{RunConfig, Shape};
use crate::plan::payload::Payload;
use crate::plan::schedule::PlanShare;
use crate::plan::sources::Sources;
use crate::sys::time::nanos;

impl<T: Transport> EventLoop<T> {
    /// For its part of `plan`, on the thread that will run it.
    pub(in crate::generate) fn new(
        plan: &GeneratorPlan,
        part: Part,
    ) -> Result<Self, GenerateError> {
        let Part { share, exchange, shared: Shared { open, left }, stop } = part;
        let config = &plan.config;
        let slots = slots(plan, share);
        let payload =
            Payload::new(config.size, config.seed.wrapping_add(config.shard.index.into()));
        let transport = T::new(&TransportSpec {
            target: plan.target,
            slots,
            payload: payload.block(),
            message: payload.size(),
        })?;
        let watch = match plan.method {
            Method::Diag => {
                let patience = if plan.yields { Patience::SHARED_CPU } else { Patience::OWN_CPU };
                Some(DiagWatch::open(slots, patience).map_err(GenerateError::Diag)?)
            }
            Method::Stamp | Method::None => None,
        };
        let spec = SocketSpec {
            target: plan.target,
            close: config.close,
            talks: plan.messages > 0 || config.send_first,
            nonblocking: T::NONBLOCKING,
            sources: Sources::of(config).starting_at(share.index as usize),
        };
        let mut sockets = Sockets::new(spec, slots, stock(plan, share));
        while sockets.prepare_one(0) {}
        let (messages, method, clock_domain) = (plan.messages, plan.method, plan.clock_domain);
        let send_first = config.send_first;
        Ok(Self {
            target: plan.target,
            timeout_ns: nanos(config.timeout),
            idling: Idling::of(plan),
            giving_way: GivingWay::new(plan.yields),
            stop,
            script: Script { payload, messages, method, clock_domain, send_first },
            inquest: Inquest::new(method == Method::Stamp),
            transport,
            batch: Vec::with_capacity(BATCH),
            completions: VecDeque::with_capacity(slots as usize * COMPLETIONS_EACH),
            watch,
            seen: Vec::with_capacity(SAMPLES_PER_TURN as usize),
            arrivals: ThreadArrivals::new(config, share, left),
            launches_per_turn: match config.shape {
                Shape::Burst { .. } => BURST_PER_TURN,
                Shape::Rate { .. } | Shape::Closed { .. } => 1,
            },
            sockets,
            open,
            table: Table::new(slots),
            recorder: AttemptRecorder::new(config.warmup, plan.method != Method::None)
                .beside(plan.clock_offset),
            exchange,
            number: u64::from(share.index) << 48,
            last_activity_ns: 0,
            interrupted: false,
        })
    }
}

/// What the threads of a run share.
#[derive(Debug, Clone)]
pub(in crate::generate) struct Shared {
    open: OpenConnections,
    left: ArrivalsLeft,
}

/// What one thread is given besides the plan.
#[derive(Debug)]
pub(in crate::generate) struct Part {
    pub(in crate::generate) share: PlanShare,
    pub(in crate::generate) exchange: Exchange,
    pub(in crate::generate) shared: Shared,
    /// Set: no more arrivals, and what is open is unfinished.
    pub(in crate::generate) stop: Arc<AtomicBool>,
}

impl Shared {
    /// Of a run.
    pub(in crate::generate) fn of(config: &RunConfig) -> Self {
        let open = OpenConnections::at_most(config.max_in_flight);
        Self { open, left: ArrivalsLeft::of(config) }
    }
}

/// Connections that the thread may have open at once: all, since others may have none. Where that
/// would be much memory per thread, twice its share.
fn slots(plan: &GeneratorPlan, share: PlanShare) -> u32 {
    let all = plan.config.max_in_flight;
    let twice = share.of_total(all.into()).saturating_mul(2).max(SLOTS_FOR_ALL.into());
    u32::try_from(twice).unwrap_or(u32::MAX).min(all).max(1)
}

/// Sockets to have ready: a whole burst, else enough for a busy moment.
fn stock(plan: &GeneratorPlan, share: PlanShare) -> u32 {
    let burst = share.of_total(plan.config.own_shape().at_once().into());
    u32::try_from(burst).unwrap_or(u32::MAX).max(PREPARED_MAX)
}

/// Slots that every thread has if there may be that many connections: some tens of megabytes.
const SLOTS_FOR_ALL: u32 = 65_536;
/// Connects of a burst before anything else is done. At a rate it is one: if there is more to do
/// than there is time for, lateness shows it, and not connections that are never attended to.
const BURST_PER_TURN: u32 = 1024;
/// Completions one connection may have outstanding: connect, then a receive, two sends and a
/// cancellation.
const COMPLETIONS_EACH: usize = 4;
