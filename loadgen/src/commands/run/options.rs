//! From what was typed to what a run is to do.

use std::num::NonZeroU32;
use std::time::Duration;

use uring_echo::values::CpuList;

use crate::analyse::slo::{AbortCondition, AbortError, Objective, SloError};
use crate::cli::run::RunArgs;
use crate::commands::target::{self, TargetError};
use crate::model::load::Arrivals;
use crate::model::result::Shard;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::schedule::PlanShare;

/// What was typed does not make a run. Usage errors: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Arguments after `--` have no receiver.
    #[error(
        "arguments after -- are for the embedded server, but {addr} was given as the server: \
         leave one of the two out"
    )]
    ServerArgsWithTarget {
        /// The address as typed.
        addr: String,
    },
    /// The address names no server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// One instant, or one share, for many runs.
    #[error("--shard and --start-at are for a single run, and this command starts many")]
    ManyRuns,
    /// A share of an embedded server, of which every process would have its own.
    #[error("--shard needs a server that all shards load: give its address")]
    ShardOfEmbedded,
    /// Less to do than there are shards.
    #[error("{flag} {total} leaves nothing to do for some of {shards} shards")]
    TooManyShards {
        /// What is divided.
        flag: &'static str,
        /// As typed.
        total: u64,
        /// Shards of the run.
        shards: u32,
    },
    /// More connections than one burst, and no interval to start the next.
    #[error("--connections {connections} with --burst {count} needs --every, the bursts' distance")]
    BurstWithoutEvery {
        /// Measured attempts asked for.
        connections: u64,
        /// Connections per burst.
        count: u32,
    },
    /// An objective that is none.
    #[error("--slo")]
    Slo(#[from] SloError),
    /// A condition that is none.
    #[error("--abort-on")]
    AbortOn(#[from] AbortError),
    /// A single burst is over at once; nothing would be left after the warm-up.
    #[error("--warmup with --burst needs --every: a single burst has nothing before it")]
    WarmupOfSingleBurst,
}

impl ConfigError {
    /// Whether other arguments would have helped: a server that did not come is no usage error.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Target(error) if !error.is_usage())
    }
}

/// Rate of a run that asks for no shape, connections per second.
const RATE_DEFAULT: f64 = 3000.0;

/// Length of a run that asks for no end.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Connections open at once when the shape does not need more.
const MAX_IN_FLIGHT_DEFAULT: u32 = 10_000;

/// What is judged during and after a run.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) struct Objectives {
    pub(super) slo: Vec<Objective>,
    pub(super) abort_on: Vec<AbortCondition>,
}

/// Reads the objectives that were typed.
pub(in crate::commands) fn objectives(args: &RunArgs) -> Result<Objectives, ConfigError> {
    let slo = args.slo.iter().map(|text| text.parse()).collect::<Result<_, SloError>>()?;
    let abort_on = args.abort_on.iter().map(|text| text.parse());
    Ok(Objectives { slo, abort_on: abort_on.collect::<Result<_, AbortError>>()? })
}

/// Whether an objective is about outcomes; `None` without any.
pub(in crate::commands) fn about_outcomes(args: &RunArgs) -> Result<Option<bool>, ConfigError> {
    let Objectives { slo, .. } = objectives(args)?;
    let about = slo.iter().any(|objective| objective.phase().is_none());
    Ok((!slo.is_empty()).then_some(about))
}

/// Resolves what many runs have in common.
///
/// # Errors
/// As [`resolve`]; and what makes sense for one run only is refused.
pub fn of_many_runs(args: &RunArgs) -> Result<RunConfig, ConfigError> {
    if args.shard.is_some() || args.start_at.is_some() {
        return Err(ConfigError::ManyRuns);
    }
    resolve(args)
}

/// Resolves what was typed. Looks host names up; of a name with several addresses it tries which
/// one answers.
///
/// # Errors
/// [`ConfigError`] names the arguments that do not go together.
pub fn resolve(args: &RunArgs) -> Result<RunConfig, ConfigError> {
    if let (Some(addr), false) = (&args.addr, args.server_args.is_empty()) {
        return Err(ConfigError::ServerArgsWithTarget { addr: addr.clone() });
    }
    let find = |addr: &String| target::find(addr, &args.source, args.target);
    let shape = shape(args);
    let stop = stop(args, shape)?;
    let shard = shard(args, shape)?;
    Ok(RunConfig {
        target: args.addr.as_ref().map(find).transpose()?,
        stop,
        shard,
        start_at: args.start_at,
        warmup: warmup(args, shape)?,
        max_in_flight: args.max_in_flight.unwrap_or_else(|| in_flight_default(shape)),
        shape,
        // Nothing is echoed then, unless echoes are asked for.
        messages: args.send_first.then_some(0).or(args.messages),
        send_first: args.send_first,
        size: args.size,
        close: args.close,
        sources: args.source.clone(),
        threads: args.threads,
        cpus: args.cpus.clone().map(CpuList::sorted),
        timeout: args.timeout,
        seed: args.seed,
        observe: args.observe,
        transport: args.transport,
        server_args: args.server_args.clone(),
    })
}

fn shape(args: &RunArgs) -> Shape {
    if let Some(count) = args.burst.and_then(NonZeroU32::new) {
        return Shape::Burst { count, every: args.every };
    }
    if let Some(concurrency) = args.concurrency.and_then(NonZeroU32::new) {
        return Shape::Closed { concurrency };
    }
    Shape::Rate {
        per_second: args.rate.unwrap_or(RATE_DEFAULT),
        arrivals: args.arrivals.unwrap_or(Arrivals::Constant),
    }
}

fn shard(args: &RunArgs, shape: Shape) -> Result<PlanShare, ConfigError> {
    let Some(Shard { index, count }) = args.shard else { return Ok(PlanShare::WHOLE) };
    if args.addr.is_none() {
        return Err(ConfigError::ShardOfEmbedded);
    }
    let divided = match shape {
        Shape::Rate { .. } => None,
        Shape::Burst { count, .. } => Some(("--burst", count.get().into())),
        Shape::Closed { concurrency } => Some(("--concurrency", concurrency.get().into())),
    };
    let connections = args.connections.map(|total| ("--connections", total));
    let too_few = |&(_, total): &(_, u64)| total < count.into();
    if let Some((flag, total)) = divided.into_iter().chain(connections).find(too_few) {
        return Err(ConfigError::TooManyShards { flag, total, shards: count });
    }
    Ok(PlanShare { index, of: count })
}

fn stop(args: &RunArgs, shape: Shape) -> Result<Stop, ConfigError> {
    if let (Shape::Burst { count, every: None }, Some(connections)) = (shape, args.connections) {
        let count = count.get();
        if connections > u64::from(count) {
            return Err(ConfigError::BurstWithoutEvery { connections, count });
        }
    }
    let asked = args.connections.map(Stop::Connections).or_else(|| args.duration.map(Stop::After));
    Ok(asked.unwrap_or_else(|| match shape {
        Shape::Burst { count, every: None } => Stop::Connections(count.get().into()),
        _ => Stop::After(DURATION_DEFAULT),
    }))
}

fn warmup(args: &RunArgs, shape: Shape) -> Result<Duration, ConfigError> {
    let warmup = args.warmup.unwrap_or_default();
    if matches!(shape, Shape::Burst { every: None, .. }) && !warmup.is_zero() {
        return Err(ConfigError::WarmupOfSingleBurst);
    }
    Ok(warmup)
}

fn in_flight_default(shape: Shape) -> u32 {
    match shape {
        Shape::Burst { every: None, count } => count.get(),
        Shape::Closed { concurrency } => concurrency.get(),
        _ => MAX_IN_FLIGHT_DEFAULT.max(shape.at_once()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_args;

    fn resolve(args: &str) -> Result<RunConfig, ConfigError> {
        super::resolve(&run_args(args))
    }

    #[test]
    fn nothing_typed_is_3000_per_second_for_10_seconds_on_the_embedded_server() {
        let config = resolve("").unwrap();
        assert_eq!(config.target, None);
        let constant = Shape::Rate { per_second: 3000.0, arrivals: Arrivals::Constant };
        assert_eq!(config.shape, constant);
        assert_eq!(config.stop, Stop::After(Duration::from_secs(10)));
        assert_eq!(config.timeout, Duration::from_secs(10));
        assert_eq!(config.messages_for(false), 1);
    }

    #[test]
    fn a_shard_has_its_part_of_everything_that_is_counted() {
        let load = |args: &str| resolve(&format!("127.0.0.1:80 {args}")).unwrap().load(0);
        let rate = load("--rate 3k --connections 100 --shard 2/3");
        assert_eq!((rate.rate, rate.connections), (Some(1000.0), Some(33)));
        assert_eq!(load("--burst 100 --every 1s --shard 0/3").burst, Some(34));
        assert_eq!(load("--concurrency 100 --shard 1/3").concurrency, Some(33));
        for args in ["--concurrency 2 --shard 0/3", "--burst 9 --shard 0/10"] {
            let error = resolve(&format!("127.0.0.1:80 {args}")).unwrap_err();
            assert!(matches!(error, ConfigError::TooManyShards { .. }), "{args}: {error}");
        }
        assert!(matches!(resolve("--shard 0/3"), Err(ConfigError::ShardOfEmbedded)));
    }

    #[test]
    fn messages_are_sent_only_to_a_server_known_to_echo() {
        let config = resolve("127.0.0.1:80").unwrap();
        assert_eq!(config.messages_for(false), 0);
        assert_eq!(config.messages_for(true), 1);
        assert_eq!(resolve("127.0.0.1:80 --messages 3").unwrap().messages_for(false), 3);
    }

    #[test]
    fn a_burst_is_single_unless_repeated() {
        assert_eq!(resolve("--burst 500").unwrap().stop, Stop::Connections(500));
        let repeated = resolve("--burst 500 --every 1s").unwrap();
        assert_eq!(repeated.stop, Stop::After(Duration::from_secs(10)));
        assert!(resolve("--burst 500 --connections 501").is_err());
        assert!(resolve("--burst 500 --warmup 1s").is_err());
    }

    #[test]
    fn the_shape_sets_how_many_may_be_in_flight() {
        assert_eq!(resolve("--burst 15k").unwrap().max_in_flight, 15_000);
        assert_eq!(resolve("--concurrency 8").unwrap().max_in_flight, 8);
        assert_eq!(resolve("--burst 15k --max-in-flight 10").unwrap().max_in_flight, 10);
    }

    #[test]
    fn server_arguments_need_the_embedded_server() {
        let error = resolve("127.0.0.1:80 -- --stall 1s/2s").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:80") && error.contains("--"), "{error}");
    }

    #[test]
    fn host_names_and_families_are_checked() {
        assert!(resolve("127.0.0.1").is_err());
        assert!(resolve("[::1]:7 --source 127.0.0.0/8").is_err());
        let named = resolve("localhost:7 --source 127.0.0.0/8").unwrap();
        assert!(named.target.unwrap().is_ipv4());
    }
}
