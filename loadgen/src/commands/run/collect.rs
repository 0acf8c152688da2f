//! Gathers what the generator threads record until they have ended.

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::target_server::TargetServer;
use crate::analyse::slo::AbortCondition;
use crate::evidence::LatestQueue;
use crate::generate::aggregation::Aggregate;
use crate::generate::{Delivery, GenerateError, GeneratorPlan, GeneratorThreads};
use crate::model::live::Live;
use crate::model::outcome::Phase;
use crate::model::result::Aborted;
use crate::render::progress::Progress;
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// What was recorded, and what broke meanwhile.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) aggregate: Aggregate,
    /// The embedded server ended by itself.
    pub(super) server_ended: Option<ExitStatus>,
    /// A generator thread gave up; the others were stopped.
    pub(super) generator_failed: Option<GenerateError>,
    /// Nothing completed and nothing would have.
    pub(super) hopeless: bool,
    /// A condition of `--abort-on` became true.
    pub(super) aborted: Option<Aborted>,
}

/// What may end a run before its plan does.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) server: &'a mut TargetServer,
    pub(super) abort_on: &'a [AbortCondition],
    pub(super) stop: &'a StopFlag,
    pub(super) queue: LatestQueue,
}

impl Collected {
    /// Whether the run ended early without anybody asking for it.
    pub(super) fn stopped_by_failure(&self) -> bool {
        self.server_ended.is_some() || self.generator_failed.is_some() || self.hopeless
    }
}

/// Merges what the threads deliver. A server that ends stops them, and so does a condition to abort
/// on, which is looked at every second, and a run of which nothing can come.
pub(super) fn until_the_end(
    threads: GeneratorThreads,
    plan: &GeneratorPlan,
    watch: Watch<'_>,
    mut progress: Progress,
) -> Collected {
    let mut aggregate = Aggregate::new(plan.threads());
    let (start, mut seconds) = (Instant::now(), 0);
    let (mut server_ended, mut aborted, mut hopeless) = (None, None, false);
    loop {
        match threads.next(TICK) {
            Delivery::Interval(interval) => aggregate.absorb(&interval),
            Delivery::Nothing => {}
            Delivery::Over => break,
        }
        if watch.stop.is_set() {
            progress.stopping();
        }
        progress.redraw();
        let complete = start.elapsed().saturating_sub(DELIVERY).as_secs();
        if complete > seconds {
            seconds = complete;
            let elapsed = Duration::from_secs(seconds);
            progress.tick(elapsed, &Live { queue: watch.queue.read(), ..aggregate.live() });
            let measured = elapsed.saturating_sub(plan.config.warmup);
            aborted = aborted.or_else(|| watch.condition_met(&aggregate, measured));
            if aborted.is_some() {
                watch.stop.set();
            } else if !watch.stop.is_set() && aggregate.is_hopeless() {
                hopeless = true;
                progress.note(HOPELESS);
                watch.stop.set();
            }
        }
        if server_ended.is_none() {
            server_ended = watch.server.ended();
            if server_ended.is_some() {
                watch.stop.set();
            }
        }
    }
    progress.finish();
    let generator_failed = threads.join().err();
    aggregate.finish();
    Collected { aggregate, server_ended, generator_failed, hopeless, aborted }
}

impl Watch<'_> {
    /// The first condition that is true now.
    fn condition_met(&self, aggregate: &Aggregate, measured: Duration) -> Option<Aborted> {
        if self.abort_on.is_empty() {
            return None;
        }
        let phases: BTreeSet<Phase> = self.abort_on.iter().filter_map(|it| it.phase()).collect();
        let so_far = aggregate.so_far(&phases);
        self.abort_on.iter().find_map(|condition| condition.check(&so_far, nanos(measured)))
    }
}

/// A second is reported once its numbers can be expected to have been delivered.
const DELIVERY: Duration = Duration::from_millis(300);

/// Told when the rest of a run would be in vain.
const HOPELESS: &str =
    "no attempt has completed and none will: the run ends here, the verdict says why";

/// How often the embedded server is checked.
const TICK: Duration = Duration::from_millis(200);
