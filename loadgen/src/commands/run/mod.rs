//! `loadgen run`: a whole run, from preflight to exit code.
//!
//! [`options`] resolves what was typed, `target_server` finds or starts the server, `observing`
//! decides how its accepts are seen, `collect` gathers what the generator threads record, and
//! `assemble` makes the result of it, which is printed before anything else can fail.

mod assemble;
mod collect;
mod observing;
pub mod options;
mod target_server;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::thread::{CpuSet, sched_setaffinity};
use uring_echo::sys::descriptors;

use self::assemble::Measured;
use self::collect::Watch;
use self::observing::Observing;
use self::options::{ConfigError, Objectives};
use self::target_server::TargetServer;
use super::envelope::Destination;
use super::exit::ExitStatus;
use crate::cli::run::RunArgs;
use crate::evidence::{LatestQueue, ListenerSampler, MeasuredFrom, Sampler, SamplerOptions};
use crate::generate::connection::Method;
use crate::generate::{GenerateError, GeneratorPlan, GeneratorThreads, PREPARED_MAX};
use crate::model::live::LiveHead;
use crate::model::outcome::Phase;
use crate::observe::ListenerQueue;
use crate::plan::config::{RunConfig, Shape};
use crate::plan::preflight::{
    Budget, OTHER_DESCRIPTORS, PreflightError, Resources, check_local_address,
};
use crate::plan::sources::Sources;
use crate::render::output::OutputError;
use crate::render::progress::Progress;
use crate::server::EmbeddedError;
use crate::sys::signals::StopFlag;
use crate::sys::time::nanos;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The arguments do not go together. A usage error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something this program needs from the system was refused.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A result file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log named by `--server-log` cannot be used.
    #[error("--server-log {path}: {cause}")]
    ServerLog {
        /// Which file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The run cannot happen as asked.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The embedded server did not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
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
    /// The generator could not start.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

/// Runs what `args` ask for and delivers the report. Call it from the main thread, before there
/// are others: it grows the descriptor table, and the embedded server lives as long as this thread.
///
/// # Errors
/// [`RunError`] where nothing was measured.
pub fn execute(args: &RunArgs) -> Result<ExitStatus, RunError> {
    let config = options::resolve(args)?;
    let objectives = options::objectives(args)?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)
        .map_err(refused("installing signal handlers"))?;
    let mut progress = Progress::new(config.length(), args.quiet);
    let destination = Destination::open(args.out.as_deref(), args.json.as_deref())?;
    for path in destination.replaced() {
        progress.note(&format!("{} is there already and will be replaced", path.display()));
    }
    let budget = preflight(&config)?;
    if !args.quiet {
        progress.note(&budget.to_string());
    }
    let server = TargetServer::find(&config, args.server_log.as_deref())?;
    let measured = measure(config, server, &objectives, &stop, progress)?;
    report(measured, args, &objectives, destination)
}

/// From the first thread to the last reading of the evidence.
fn measure(
    config: RunConfig,
    mut server: TargetServer,
    objectives: &Objectives,
    stop: &StopFlag,
    mut progress: Progress,
) -> Result<Measured, RunError> {
    let observing = Observing::choose(&config, &server, &mut progress)?;
    progress.describe(head(&config, &server, &observing));
    let plan = Arc::new(plan(config, &server, &observing)?);
    let queue = LatestQueue::default();
    let sampler = start_sampler(&plan, &server, &queue)?;
    let threads = GeneratorThreads::start(&plan, &stop.shared())?;
    let (load_began_ns, warmup_ns) = (threads.start_ns(), nanos(plan.config.warmup));
    let measured_from_ns = load_began_ns.saturating_add(warmup_ns);
    sampler.begin(MeasuredFrom { load_began_ns, measured_from_ns });
    let (transport, degraded) = (threads.transport(), threads.degraded().to_vec());
    for reason in &degraded {
        progress.note(&format!("transport {}: {reason}", transport.name()));
    }
    let load_began = assemble::realtime_of(threads.start_ns());
    give_way(&plan)?;
    let watch = Watch { server: &mut server, abort_on: &objectives.abort_on, stop, queue };
    let collected = collect::until_the_end(threads, &plan, watch, progress);
    let load_ended = SystemTime::now();
    let evidence = sampler.finish();
    let interrupted = stop.is_set() && !collected.stopped_by_failure();
    Ok(Measured {
        plan,
        server,
        observing,
        transport,
        degraded,
        load_began,
        load_ended,
        collected,
        evidence,
        interrupted,
    })
}

/// The report first: what fails from here on is told after it, in the files and in the status.
fn report(
    measured: Measured,
    args: &RunArgs,
    objectives: &Objectives,
    destination: Destination,
) -> Result<ExitStatus, RunError> {
    let (mut result, server) = measured.into_result(&args.label);
    result.slo = objectives.slo.iter().map(|objective| objective.judge(&result)).collect();
    let printed = destination.print_report(&result);
    result.problems.extend(server.stop());
    let finished = destination.finish(&mut result);
    printed.and(finished).map_err(refused("writing the report to stdout"))?;
    Ok(ExitStatus::of(&result))
}

/// Refuses an impossible run, and takes beforehand what would stall a possible one.
fn preflight(config: &RunConfig) -> Result<Budget, RunError> {
    Sources::of(config).check().map_err(PreflightError::from)?;
    let prepared = u32::from(config.threads).saturating_mul(PREPARED_MAX);
    let resources = Resources::gather(config, prepared).map_err(refused("reading the limits"))?;
    let budget = Budget::check(&resources, config)?;
    config.target.map_or(Ok(()), check_local_address)?;
    let apart = u32::try_from(OTHER_DESCRIPTORS).unwrap_or(u32::MAX);
    let highest = config.max_in_flight.saturating_add(prepared).saturating_add(apart);
    descriptors::grow_table(highest).map_err(refused("growing the descriptor table"))?;
    Ok(budget)
}

fn plan(
    config: RunConfig,
    server: &TargetServer,
    observing: &Observing,
) -> Result<GeneratorPlan, RunError> {
    let mut plan = GeneratorPlan {
        target: server.addr(),
        method: observing.method(),
        messages: config.messages_for(observing.stamps()),
        clock_domain: observing.stamping_clock()?,
        clock_offset: observing.clock_offset(),
        cpus: server.generator_cpus().to_vec(),
        yields: false,
        config,
    };
    plan.yields = server.must_share_with(plan.threads());
    Ok(plan)
}

/// What stands above the numbers while the run goes on.
fn head(config: &RunConfig, server: &TargetServer, observing: &Observing) -> LiveHead {
    let phase = match observing.method() {
        Method::None => Phase::Connect,
        Method::Stamp | Method::Diag => Phase::AcceptDelay,
    };
    let planned_rate = match config.own_shape() {
        Shape::Rate { per_second, .. } => Some(per_second),
        Shape::Burst { .. } | Shape::Closed { .. } => None,
    };
    LiveHead { target: server.addr().to_string(), phase: phase.name(), planned_rate }
}

fn start_sampler(
    plan: &GeneratorPlan,
    server: &TargetServer,
    queue: &LatestQueue,
) -> Result<Sampler, RunError> {
    let cpus = (!plan.cpus.is_empty()).then(|| plan.cpus.clone());
    let options = SamplerOptions {
        server_pids: server.pids(),
        generator_shares_cpus: server.may_share_cpus(),
        cpus,
        listener: accept_queue(plan).map(|sampler| queue.noting(sampler)),
        ..SamplerOptions::default()
    };
    Sampler::start(options).map_err(refused("starting the evidence thread"))
}

/// From here on this thread must not disturb: neither the server nor, much, the generator.
fn give_way(plan: &GeneratorPlan) -> Result<(), RunError> {
    rustix::process::nice(19).map_err(|e| refused("lowering the priority")(e.into()))?;
    if plan.cpus.is_empty() {
        return Ok(());
    }
    let mut cpus = CpuSet::new();
    plan.cpus.iter().for_each(|&cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus).map_err(|e| refused("staying on the generator's CPUs")(e.into()))
}

/// The accept queue, if the server's listener is in this network namespace.
fn accept_queue(plan: &GeneratorPlan) -> Option<Box<dyn ListenerSampler + Send>> {
    let mut queue = ListenerQueue::open(plan.target).ok()?;
    let has_listener = matches!(queue.sample(), Ok(Some(_)));
    has_listener.then(|| Box::new(queue) as Box<dyn ListenerSampler + Send>)
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
