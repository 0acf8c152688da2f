//! The resolved, immutable configuration of a run; nothing reads arguments afterwards.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::cli::RunArgs;
pub use crate::cli::{Arrivals, Close, Observe};

/// Everything a run needs to know, decided before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// The server; `None` starts the embedded one.
    pub target: Option<SocketAddr>,
    /// When connections are wanted.
    pub shape: Shape,
    /// When the measurement ends.
    pub stop: Stop,
    /// Load before the measurement; attempts intended earlier than this are only counted.
    pub warmup: Duration,
    /// Echo round trips per connection; `None`: see [`RunConfig::messages_for`].
    pub messages: Option<u32>,
    /// Bytes per message, at least 1.
    pub size: u32,
    /// How the client ends a connection.
    pub close: Close,
    /// Client addresses; empty lets the kernel choose.
    pub sources: Vec<IpNet>,
    /// Generator threads, at least 1.
    pub threads: u16,
    /// CPUs of the generator; `None` leaves the choice to whoever starts the threads.
    pub cpus: Option<Vec<usize>>,
    /// Connections open at once over all threads, at least 1.
    pub max_in_flight: u32,
    /// A connection that has not answered for this long has its outcome.
    pub timeout: Duration,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// How the instant of accept is learned.
    pub observe: Observe,
    /// Folder for the result files.
    pub out: Option<PathBuf>,
    /// Where the JSON goes besides.
    pub json: Option<JsonTarget>,
    /// No progress.
    pub quiet: bool,
    /// Kept in the result file.
    pub labels: BTreeMap<String, String>,
    /// Arguments for the embedded server; empty with a target.
    pub server_args: Vec<String>,
}

/// When connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Open loop: the plan does not wait for the server.
    Rate {
        /// Connections per second over all threads.
        per_second: f64,
        /// Spacing.
        arrivals: Arrivals,
    },
    /// `count` connections at one instant.
    Burst {
        /// Connections per burst over all threads, at least 1.
        count: NonZeroU32,
        /// Distance of the bursts; `None` is a single burst.
        every: Option<Duration>,
    },
    /// Closed loop: a connection that ended is replaced.
    Closed {
        /// Connections kept going over all threads, at least 1.
        concurrency: NonZeroU32,
    },
}

/// When the measurement ends. The warm-up comes before and does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No arrival is planned at or after `warmup` + this.
    After(Duration),
    /// Exactly this many measured attempts over all threads.
    Connections(u64),
}

/// Where `--json` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonTarget {
    /// `-`: JSON alone on stdout, no text report.
    Stdout,
    /// A file, replaced atomically.
    File(PathBuf),
}

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
    /// The address has no meaning.
    #[error(
        "cannot resolve '{addr}' ({cause}): give host:port, such as 127.0.0.1:7777 or [::1]:80"
    )]
    Unresolved {
        /// The address as typed.
        addr: String,
        /// What the resolver said.
        cause: String,
    },
    /// More connections than one burst, and no interval to start the next.
    #[error("--connections {connections} with --burst {count} needs --every, the bursts' distance")]
    BurstWithoutEvery {
        /// Measured attempts asked for.
        connections: u64,
        /// Connections per burst.
        count: u32,
    },
    /// A single burst is over at once; nothing would be left after the warm-up.
    #[error("--warmup with --burst needs --every: a single burst has nothing before it")]
    WarmupOfSingleBurst,
    /// Sources and target cannot talk to each other.
    #[error("--source {source_net} and the server {target} are of different address families")]
    SourceFamily {
        /// The network as typed.
        source_net: IpNet,
        /// The resolved server.
        target: SocketAddr,
    },
}

/// Rate of a run that asks for no shape, connections per second.
const RATE_DEFAULT: f64 = 3000.0;

/// Length of a run that asks for no end.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Connections open at once when the shape does not need more.
const MAX_IN_FLIGHT_DEFAULT: u32 = 10_000;

impl RunConfig {
    /// Resolves what was typed. Looks host names up.
    ///
    /// # Errors
    /// [`ConfigError`] names the arguments that do not go together.
    pub fn resolve(args: RunArgs) -> Result<Self, ConfigError> {
        if let (Some(addr), false) = (&args.addr, args.server_args.is_empty()) {
            return Err(ConfigError::ServerArgsWithTarget { addr: addr.clone() });
        }
        let target = args.addr.as_deref().map(|addr| lookup(addr, &args.source)).transpose()?;
        check_sources(target, &args.source)?;
        let shape = shape(&args);
        Ok(Self {
            target,
            stop: stop(&args, shape)?,
            warmup: warmup(&args, shape)?,
            max_in_flight: args.max_in_flight.unwrap_or_else(|| in_flight_default(shape)),
            shape,
            messages: args.messages,
            size: args.size,
            close: args.close,
            sources: args.source,
            threads: args.threads,
            cpus: args.cpus.map(|list| list.0),
            timeout: args.timeout,
            seed: args.seed,
            observe: args.observe,
            out: args.out,
            json: args.json.map(json_target),
            quiet: args.quiet,
            labels: args.label.into_iter().collect(),
            server_args: args.server_args,
        })
    }

    /// Round trips per connection: as typed, else one where the server is known to echo.
    pub fn messages_for(&self, server_stamps: bool) -> u32 {
        let ours = server_stamps || self.target.is_none();
        self.messages.unwrap_or_else(|| ours.into())
    }

    /// Whether JSON alone goes to stdout.
    pub fn json_alone(&self) -> bool {
        self.json == Some(JsonTarget::Stdout)
    }
}

impl Shape {
    /// `rate`, `burst` or `closed`, as in the result file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Burst { .. } => "burst",
            Self::Closed { .. } => "closed",
        }
    }

    /// Connections the shape wants open at one instant even from an infinitely fast server.
    pub fn at_once(&self) -> u32 {
        match self {
            Self::Rate { .. } => 1,
            Self::Burst { count, .. } => count.get(),
            Self::Closed { concurrency } => concurrency.get(),
        }
    }
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

fn json_target(path: PathBuf) -> JsonTarget {
    if path.as_os_str() == "-" { JsonTarget::Stdout } else { JsonTarget::File(path) }
}

/// The first address of the sources' family, else the first one.
pub(crate) fn lookup(addr: &str, sources: &[IpNet]) -> Result<SocketAddr, ConfigError> {
    let unresolved = |cause: String| ConfigError::Unresolved { addr: addr.to_owned(), cause };
    let found: Vec<SocketAddr> =
        addr.to_socket_addrs().map_err(|e| unresolved(e.to_string()))?.collect();
    let wanted = |a: &&SocketAddr| sources.first().is_some_and(|s| same_family(s, a));
    let chosen = found.iter().find(wanted).or_else(|| found.first());
    chosen.copied().ok_or_else(|| unresolved("no address".into()))
}

fn check_sources(target: Option<SocketAddr>, sources: &[IpNet]) -> Result<(), ConfigError> {
    let Some(target) = target else { return Ok(()) };
    match sources.iter().find(|net| !same_family(net, &target)) {
        Some(&source_net) => Err(ConfigError::SourceFamily { source_net, target }),
        None => Ok(()),
    }
}

fn same_family(net: &IpNet, addr: &SocketAddr) -> bool {
    net.addr().is_ipv4() == addr.is_ipv4()
}

/// What `loadgen run` makes of these words.
#[cfg(test)]
pub(crate) fn typed(words: &str) -> Result<RunConfig, ConfigError> {
    use crate::cli::{Cli, Command};
    let all = ["loadgen", "run"].into_iter().chain(words.split_whitespace());
    match <Cli as clap::Parser>::try_parse_from(all).expect(words).command {
        Command::Run(run) => RunConfig::resolve(*run),
        other => panic!("{words} is {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::typed as resolve;
    use super::*;

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

    #[test]
    fn a_dash_is_stdout() {
        assert!(resolve("--json -").unwrap().json_alone());
        assert!(!resolve("--json ./-").unwrap().json_alone());
    }
}
