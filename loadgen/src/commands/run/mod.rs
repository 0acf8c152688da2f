//! A whole run: preflight, server, observation, generator, evidence, verdict, report.

mod observing;
mod target_server;

use std::io;
use std::process::ExitStatus as ProcessStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::thread::{CpuSet, sched_setaffinity};
use signal_hook::consts::{SIGINT, SIGTERM};
use uring_echo::stamp::ClockDomain;

use self::observing::Observing;
use self::target_server::TargetServer;
use crate::evidence::environment::Environment;
use crate::evidence::{ListenerProbe, Sampler, SamplerOptions};
use crate::generate::aggregation::Aggregate;
use crate::generate::{
    Delivery, GenerateError, GeneratorThreads, PREPARED_MAX, Plan, prewarm_descriptors,
};
use crate::observe::ListenerQueue;
use crate::plan::config::RunConfig;
use crate::plan::preflight::{Budget, DESCRIPTORS_APART, Facts, PreflightError};
use crate::plan::sources::Sources;
use crate::render::progress::Progress;
use crate::render::{self, ExitStatus, Finished, Report};
use crate::server::EmbeddedError;

/// Why there is no report. Exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something this program needs from the system was refused.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The run cannot happen as asked.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The embedded server did not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The embedded server ended in the middle of the run.
    #[error("the embedded server ended during the run ({status}); its last words are above")]
    ServerDied {
        /// How.
        status: ProcessStatus,
    },
    /// Accepts cannot be observed in the way that was asked for.
    #[error("--observe {asked} cannot work here: {reason}; use --observe {instead}")]
    NotObservable {
        /// The way.
        asked: &'static str,
        /// Why not.
        reason: String,
        /// What can be done.
        instead: &'static str,
    },
    /// The generator gave up.
    #[error(transparent)]
    Dispatch(#[from] GenerateError),
}

/// Runs what `config` asks for and delivers the report. Call it from the main thread, before there
/// are others: it grows the descriptor table, and the embedded server lives as long as this thread.
///
/// # Errors
/// [`RunError`] where there is nothing to report.
pub fn run(config: RunConfig, argv: Vec<String>) -> Result<ExitStatus, RunError> {
    let stop = stop_on_signals()?;
    let progress = Progress::new(&config);
    let budget = preflight(&config)?;
    if !config.quiet {
        progress.note(&budget.to_string());
    }
    let mut host = TargetServer::find(&config)?;
    let observing = Observing::choose(&config, &host, &progress)?;
    let plan = Arc::new(plan(config, &host, &observing)?);
    let started_at = SystemTime::now();
    let sampler = start_sampler(&plan, &host)?;
    let threads = GeneratorThreads::start(&plan, &stop)?;
    stand_back(&plan)?;
    let totals = follow(threads, &plan, &mut host, &stop, progress)?;
    let evidence = sampler.finish().map_err(refused("reading the evidence"))?;
    let interrupted = stop.load(Ordering::Relaxed);
    let server = host.into_report()?;
    let finished = Finished {
        config: &plan.config,
        argv,
        started_at,
        target: observing.target(plan.target),
        server,
        messages: plan.messages,
        environment: Environment::read(),
        totals: &totals,
        evidence,
        interrupted,
    };
    let report = Report::of(finished);
    render::deliver(&report, &plan.config, &totals, started_at)
        .map_err(refused("writing the report"))?;
    Ok(report.exit_status())
}

/// The first signal ends the run with a partial report, the second ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    let failed = refused("installing signal handlers");
    for signal in [SIGINT, SIGTERM] {
        // In this order: the flag is still unset when the first signal asks for it.
        let twice = signal_hook::flag::register_conditional_shutdown;
        twice(signal, ExitStatus::Interrupted as i32, Arc::clone(&stop)).map_err(&failed)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(&failed)?;
    }
    Ok(stop)
}

/// Refuses an impossible run, and takes beforehand what would stall a possible one.
fn preflight(config: &RunConfig) -> Result<Budget, RunError> {
    Sources::expand(&config.sources).check().map_err(PreflightError::from)?;
    let prepared = u32::from(config.threads).saturating_mul(PREPARED_MAX);
    let facts = Facts::gather(config, prepared).map_err(refused("reading the limits"))?;
    let budget = Budget::check(&facts, config)?;
    let apart = u32::try_from(DESCRIPTORS_APART).unwrap_or(u32::MAX);
    let descriptors = config.max_in_flight.saturating_add(prepared).saturating_add(apart);
    prewarm_descriptors(descriptors).map_err(refused("growing the descriptor table"))?;
    Ok(budget)
}

fn plan(config: RunConfig, host: &TargetServer, observing: &Observing) -> Result<Plan, RunError> {
    let mut plan = Plan {
        target: host.addr(),
        method: observing.method(),
        messages: config.messages_for(observing.stamps()),
        clock_domain: ClockDomain::current().map_err(refused("reading the clock's domain"))?,
        cpus: host.generator_cpus().to_vec(),
        yields: false,
        config,
    };
    plan.yields = host.must_share_with(plan.threads());
    Ok(plan)
}

fn start_sampler(plan: &Plan, host: &TargetServer) -> Result<Sampler, RunError> {
    let cpus = (!plan.cpus.is_empty()).then(|| plan.cpus.clone());
    let options = SamplerOptions {
        server_pid: host.pid(),
        cpus,
        listener: accept_queue(plan),
        ..SamplerOptions::default()
    };
    Sampler::start(options).map_err(refused("starting the evidence thread"))
}

/// From here on this thread must not disturb: neither the server nor, much, the generator.
fn stand_back(plan: &Plan) -> Result<(), RunError> {
    rustix::process::nice(19).map_err(|e| refused("lowering the priority")(e.into()))?;
    if plan.cpus.is_empty() {
        return Ok(());
    }
    let mut cpus = CpuSet::new();
    plan.cpus.iter().for_each(|&cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus).map_err(|e| refused("staying on the generator's CPUs")(e.into()))
}

/// Merges what the generator delivers until it has ended.
fn follow(
    threads: GeneratorThreads,
    plan: &Plan,
    host: &mut TargetServer,
    stop: &AtomicBool,
    mut progress: Progress,
) -> Result<Aggregate, RunError> {
    let mut totals = Aggregate::new(plan.threads());
    let (start, mut seconds) = (Instant::now(), 0);
    let mut died = None;
    loop {
        match threads.next(TICK) {
            Delivery::Interval(interval) => totals.absorb(&interval),
            Delivery::Nothing => {}
            Delivery::Over => break,
        }
        let complete = start.elapsed().saturating_sub(DELIVERY).as_secs();
        if complete > seconds {
            seconds = complete;
            progress.tick(Duration::from_secs(seconds), &totals.live());
        }
        if died.is_none() {
            died = host.died().map_err(refused("waiting for the embedded server"))?;
            if died.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
    progress.finish();
    threads.join()?;
    totals.finish();
    match died {
        Some(status) => Err(RunError::ServerDied { status }),
        None => Ok(totals),
    }
}

/// A second is reported once its numbers can be expected to have been delivered.
const DELIVERY: Duration = Duration::from_millis(300);

/// How often the embedded server is looked after.
const TICK: Duration = Duration::from_millis(200);

/// The accept queue, if the server's listener is in this network namespace.
fn accept_queue(plan: &Plan) -> Option<Box<dyn ListenerProbe + Send>> {
    let mut queue = ListenerQueue::open(plan.target).ok()?;
    matches!(queue.sample(), Ok(Some(_))).then(|| Box::new(queue) as Box<dyn ListenerProbe + Send>)
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
