//! Gathers what the generator threads record until they have ended.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::target_server::TargetServer;
use crate::generate::aggregation::Aggregate;
use crate::generate::{Delivery, GenerateError, GeneratorPlan, GeneratorThreads};
use crate::render::progress::Progress;
use crate::sys::signals::StopFlag;

/// What was recorded, and what broke meanwhile.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) aggregate: Aggregate,
    /// The embedded server ended by itself.
    pub(super) server_ended: Option<ExitStatus>,
    /// A generator thread gave up; the others were stopped.
    pub(super) generator_failed: Option<GenerateError>,
}

impl Collected {
    /// Whether the run ended early without anybody asking for it.
    pub(super) fn stopped_by_failure(&self) -> bool {
        self.server_ended.is_some() || self.generator_failed.is_some()
    }
}

/// Merges what the threads deliver. A server that ends stops them.
pub(super) fn until_the_end(
    threads: GeneratorThreads,
    plan: &GeneratorPlan,
    server: &mut TargetServer,
    stop: &StopFlag,
    mut progress: Progress,
) -> Collected {
    let mut aggregate = Aggregate::new(plan.threads());
    let (start, mut seconds) = (Instant::now(), 0);
    let mut server_ended = None;
    loop {
        match threads.next(TICK) {
            Delivery::Interval(interval) => aggregate.absorb(&interval),
            Delivery::Nothing => {}
            Delivery::Over => break,
        }
        let complete = start.elapsed().saturating_sub(DELIVERY).as_secs();
        if complete > seconds {
            seconds = complete;
            progress.tick(Duration::from_secs(seconds), &aggregate.live());
        }
        if server_ended.is_none() {
            server_ended = server.ended();
            if server_ended.is_some() {
                stop.set();
            }
        }
    }
    progress.finish();
    let generator_failed = threads.join().err();
    aggregate.finish();
    Collected { aggregate, server_ended, generator_failed }
}

/// A second is reported once its numbers can be expected to have been delivered.
const DELIVERY: Duration = Duration::from_millis(300);

/// How often the embedded server is checked.
const TICK: Duration = Duration::from_millis(200);
