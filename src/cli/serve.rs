//! `uring-echo serve`: flags → [`Config`] → a server until it is told to stop.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};
use tracing::{Level, info};

use super::background::{self, Background};
use super::log::{self, LogFormat};
use super::report;
use super::settings::{self, Setting};
use crate::config::{BusyPoll, Config, SandboxMode, Stall, Steer};
use crate::engine::busy_poll::BusyPollStats;
use crate::engine::{PEER_LOG, Stats};
use crate::notify::Manager;
use crate::sandbox::Sandbox;
use crate::server::Server;
use crate::shutdown::Reactions;
use crate::stamp::{AcceptMode, Engine};
use crate::values::{CpuList, ValueError, Zero};
use crate::{shutdown, values};

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    args: ServeArgs,
    /// Check the configuration and print it, with where each setting comes from, as a file for
    /// --config: exit 0, or 2 where something is wrong.
    #[arg(long)]
    check_config: bool,
    /// Serve in a process of its own: exit 0 once it is ready, 1 if it ends before; with --takeover
    /// it replaces whoever serves.
    #[arg(long, conflicts_with = "check_config")]
    background: bool,
}

/// Flags of `uring-echo serve`; each has a twin in the environment.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub struct ServeArgs {
    /// Take what is neither typed nor in the environment from this file (TOML): settings are named
    /// as the flags here.
    #[arg(long, value_name = "FILE", env = "URING_ECHO_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here; may be given several times. Port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDR", env = "URING_ECHO_LISTEN", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:7777", action = clap::ArgAction::Append)]
    listen: Vec<String>,
    /// Worker threads, each with its own ring [default: one per allowed CPU].
    #[arg(long, value_name = "N", env = "URING_ECHO_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Pin workers to these CPUs in turn, as in 0-3,8.
    #[arg(long, value_name = "LIST", env = "URING_ECHO_CPUS", value_parser = values::cpu_list)]
    cpus: Option<CpuList>,
    /// What drives a worker.
    #[arg(long, value_enum, env = "URING_ECHO_ENGINE", default_value = "uring")]
    engine: EngineArg,
    /// A listener and queue for each worker, or one that all share.
    #[arg(long, value_enum, env = "URING_ECHO_ACCEPT", default_value = "reuseport")]
    accept: AcceptArg,
    /// Have the kernel queue a connection for the worker on the CPU that received it, instead of
    /// by a hash: by SO_INCOMING_CPU, or by a filter. Needs --cpus with a CPU for each worker.
    #[arg(long, value_enum, env = "URING_ECHO_STEER", default_value = "off")]
    steer: SteerArg,
    /// Length of the accept queue, given to listen(2) unchanged.
    #[arg(long, value_name = "N", env = "URING_ECHO_BACKLOG", default_value = "4096")]
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    backlog: i32,
    /// Spin before sleeping: `auto` in proportion to the work, where it helps and harms nobody;
    /// `always` never sleeps (give each worker a core); or before each sleep, up to a second.
    #[arg(long, value_name = "auto|off|always|MICROS", env = "URING_ECHO_BUSY_POLL")]
    #[arg(default_value = "auto", value_parser = parse_busy_poll)]
    busy_poll: BusyPoll,
    /// Have the kernel poll the network card for so long before a worker sleeps, up to a second
    /// (--engine uring, Linux 6.9) [default: it waits for interrupts].
    #[arg(long, value_name = "MICROS", env = "URING_ECHO_NAPI", value_parser = parse_napi)]
    napi: Option<NonZeroU32>,
    /// Send a stamp frame (when and by whom it was accepted) first on every connection.
    #[arg(long, env = "URING_ECHO_STAMP", value_parser = BoolishValueParser::new())]
    stamp: bool,
    /// Most connections open at once, shared out among the workers [default: what descriptors
    /// allow].
    #[arg(long, value_name = "N", env = "URING_ECHO_MAX_CONNECTIONS")]
    #[arg(value_parser = connections)]
    max_connections: Option<NonZeroU32>,
    /// Most connections of one peer per worker: an IPv4 address or an IPv6 network
    /// (--ipv6-prefix).
    #[arg(long, value_name = "N", env = "URING_ECHO_MAX_PER_IP")]
    #[arg(value_parser = connections)]
    max_per_ip: Option<NonZeroU32>,
    /// Bits of an IPv6 address that make one peer for --max-per-ip.
    #[arg(long, value_name = "BITS", env = "URING_ECHO_IPV6_PREFIX", default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=128))]
    ipv6_prefix: u8,
    /// Close connections without traffic after this long.
    #[arg(long, value_name = "D", env = "URING_ECHO_IDLE_TIMEOUT")]
    #[arg(value_parser = values::duration(Zero::Refused))]
    idle_timeout: Option<Duration>,
    /// Close connections whose peer takes less than `--min-drain` within this time.
    #[arg(long, value_name = "D", env = "URING_ECHO_WRITE_TIMEOUT", default_value = "60s")]
    #[arg(value_parser = values::duration(Zero::Refused))]
    write_timeout: Duration,
    /// The fewest bytes that a peer takes within `--write-timeout` while bytes are owed to it.
    #[arg(long, value_name = "SIZE", env = "URING_ECHO_MIN_DRAIN", default_value = "4k")]
    #[arg(value_parser = bytes)]
    min_drain: NonZeroU32,
    /// After the first stop signal keep accepting for this long.
    #[arg(long, value_name = "D", env = "URING_ECHO_DRAIN_DELAY", default_value = "0s")]
    #[arg(value_parser = values::duration(Zero::Allowed))]
    drain_delay: Duration,
    /// Then wait this long for open connections to end.
    #[arg(long, value_name = "D", env = "URING_ECHO_DRAIN_TIMEOUT", default_value = "10s")]
    #[arg(value_parser = values::duration(Zero::Refused))]
    drain_timeout: Duration,
    /// Take the listening sockets over from whoever serves with the same PATH (a Unix socket), and
    /// hand them on to the next one.
    #[arg(long, value_name = "PATH", env = "URING_ECHO_TAKEOVER")]
    takeover: Option<PathBuf>,
    /// Receive buffers of one worker, altogether.
    #[arg(long, value_name = "SIZE", env = "URING_ECHO_POOL", default_value = "16m")]
    #[arg(value_parser = bytes)]
    pool: NonZeroU32,
    /// One receive buffer, 4k to 64k.
    #[arg(long, value_name = "SIZE", env = "URING_ECHO_BUFFER", default_value = "16k")]
    #[arg(value_parser = bytes)]
    buffer: NonZeroU32,
    /// Pool memory one connection may hold before its receive is stopped.
    #[arg(long, value_name = "SIZE", env = "URING_ECHO_CREDIT", default_value = "256k")]
    #[arg(value_parser = bytes)]
    credit: NonZeroU32,
    /// Answer metrics and probes over HTTP here: /metrics, /livez, /readyz. Port 0 lets the kernel
    /// choose.
    #[arg(long, value_name = "ADDR", env = "URING_ECHO_ADMIN")]
    admin: Option<String>,
    /// Give up what a serving process does not need: as far as possible, not at all, or wholly.
    #[arg(long, value_enum, env = "URING_ECHO_SANDBOX", default_value = "auto")]
    sandbox: SandboxArg,
    /// Fault injection: workers do nothing for LENGTH every EVERY, as in 100ms/2s.
    #[arg(long, value_name = "LENGTH/EVERY", env = "URING_ECHO_STALL", value_parser = parse_stall)]
    stall: Option<Stall>,
    /// Log format on stderr; the level is taken from RUST_LOG [default: info], but
    /// for the line that says where it listens.
    #[arg(long, value_enum, env = "URING_ECHO_LOG", default_value = "text")]
    log: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineArg {
    /// uring where it is available, else epoll.
    Auto,
    /// Completions: io_uring, by a loop of this project's own.
    Uring,
    /// Readiness: epoll, with everything else the same.
    Epoll,
    /// A task per connection on the crate tokio-uring, to compare with.
    TokioUring,
}

impl EngineArg {
    fn engine(self) -> Engine {
        match self {
            Self::Auto | Self::Uring => Engine::Uring,
            Self::Epoll => Engine::Epoll,
            Self::TokioUring => Engine::TokioUring,
        }
    }

    fn falls_back(self) -> bool {
        matches!(self, Self::Auto)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AcceptArg {
    Reuseport,
    Shared,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SteerArg {
    Off,
    IncomingCpu,
    Cbpf,
}

impl SteerArg {
    const fn steer(self) -> Steer {
        match self {
            Self::Off => Steer::Off,
            Self::IncomingCpu => Steer::IncomingCpu,
            Self::Cbpf => Steer::Cbpf,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SandboxArg {
    Auto,
    Off,
    Require,
}

/// What it starts with, as far as it was asked for; the ready line has what came of it.
fn log_start(config: &Config, settings: &[Setting]) {
    let text = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let addrs: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    info!(
        listen = addrs.join(" "),
        admin = config.admin.map(tracing::field::display),
        workers = config.workers,
        cpus = text(config.cpus.as_deref().map(joined)),
        engine = config.engine.name(),
        fall_back_to_epoll = config.fall_back_to_epoll,
        accept = config.accept.name(),
        steer = config.steer.name(),
        backlog = config.backlog,
        busy_poll = %config.busy_poll,
        napi_us = config.napi,
        stamp = config.stamp,
        pool_bytes = config.pool,
        buffer_bytes = config.buffer_size,
        credit_bytes = config.credit,
        max_connections = text(config.max_connections.map(|n| n.to_string())),
        max_per_ip = text(config.max_per_ip.map(|n| n.to_string())),
        ipv6_prefix = config.ipv6_prefix,
        idle_timeout_ms = config.idle_timeout.map(millis),
        write_timeout_ms = config.write_timeout.map(millis),
        drain_delay_ms = millis(config.drain_delay),
        drain_timeout_ms = millis(config.drain_timeout),
        sandbox = config.sandbox.name(),
        min_drain_bytes = config.min_drain,
        takeover = text(config.takeover.as_ref().map(|path| path.display().to_string())),
        stall = text(config.stall.map(|stall| format!("{:?}/{:?}", stall.length, stall.every))),
        settings = settings::chosen(settings),
        "starting"
    );
}

/// As `--cpus` takes it.
fn joined(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl SandboxArg {
    const fn mode(self) -> SandboxMode {
        match self {
            Self::Auto => SandboxMode::Auto,
            Self::Off => SandboxMode::Off,
            Self::Require => SandboxMode::Require,
        }
    }
}

/// A configuration that was checked and is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Invalid(String);

/// Prints the configuration if it is right.
fn check(args: &ServeArgs, settings: &[Setting]) -> Result<()> {
    let config = args.resolve().map_err(|error| Invalid(report::chain(&error)))?;
    Server::check(&config).map_err(|error| Invalid(report::chain(&error.into())))?;
    report::print(&settings::as_file(settings))
}

pub(super) fn run(command: &ServeCommand, settings: &[Setting], argv: &[String]) -> Result<()> {
    let args = &command.args;
    if command.check_config {
        return check(args, settings);
    }
    let background = Background::of_this_process().filter(|_| command.background);
    if command.background && background.is_none() {
        return background::start();
    }
    let sandbox = Sandbox::with_trial(args.sandbox.mode());
    let of_the_log = sandbox.clone();
    log::start(args.log, move || of_the_log.restrict_thread())?;
    // Before anything is bound: a signal that comes early must not be lost.
    let signals = shutdown::Signals::install().context("installing the signal handlers")?;
    let config = args.resolve()?;
    log_start(&config, settings);
    let manager = Manager::of_this_process(background.is_some())?.map(Arc::new);
    let server = Server::start_unsealed(&config, sandbox, manager.as_ref())?;
    let reactions = reactions(&server, manager.as_ref());
    signals.start_handler(server.control(), config.drain_delay, reactions)?;
    let mut server = server.seal()?;
    server.info().log_ready(argv);
    let busy_poll = server.busy_poll();
    let status = server.status();
    server.announce_ready(|| manager.iter().for_each(|manager| manager.ready(&status())));
    background.iter().for_each(Background::ready);
    let summary = server.wait()?;
    log_busy_poll(&busy_poll.stats());
    log_counters("stopped", &summary);
    Ok(())
}

/// What signals lead to.
fn reactions(server: &Server, manager: Option<&Arc<Manager>>) -> Reactions {
    let (counters, busy_poll, status) = (server.counters(), server.busy_poll(), server.status());
    let (reloading, stopping) = (manager.cloned(), manager.cloned());
    Reactions {
        log_counters: Box::new(move || {
            log_busy_poll(&busy_poll.stats());
            log_counters("counters", &counters());
        }),
        reload: Box::new(move || {
            if let Some(manager) = &reloading {
                manager.reloading();
                manager.ready(&status());
            }
        }),
        stopping: Box::new(move || stopping.iter().for_each(|manager| manager.stopping())),
    }
}

fn log_counters(message: &str, counters: &Stats) {
    info!(
        accepted = counters.accepted,
        accepted_singly = counters.accepted_singly,
        closed = counters.closed,
        cut_short = counters.cut_short,
        bytes_in = counters.bytes_in,
        bytes_out = counters.bytes_out,
        parked = counters.parked,
        credit_stops = counters.credit_stops,
        log_lines_lost = crate::log::lost_lines(),
        "{message}"
    );
}

/// What spinning brought and cost.
fn log_busy_poll(stats: &BusyPollStats) {
    info!(
        fruitful = stats.fruitful,
        fruitless = stats.fruitless,
        fruitful_ms = stats.fruitful_ns / 1_000_000,
        fruitless_ms = stats.fruitless_ns / 1_000_000,
        preempted = stats.preemptions,
        limited_by = stats.limited_by.name(),
        "busy poll"
    );
}

impl ServeCommand {
    pub(super) const fn log_format(&self) -> LogFormat {
        self.args.log
    }
}

impl ServeArgs {
    pub(super) fn resolve(&self) -> Result<Config> {
        let mut listen = Vec::new();
        for addr in &self.listen {
            listen.extend(values::socket_addrs(addr)?);
        }
        let admin = self.admin.as_deref().map(values::socket_addrs).transpose()?;
        let config = Config {
            listen,
            admin: admin.and_then(|addrs| addrs.first().copied()),
            cpus: self.cpus.as_ref().map(|list| list.0.clone()),
            engine: self.engine.engine(),
            fall_back_to_epoll: self.engine.falls_back(),
            accept: match self.accept {
                AcceptArg::Reuseport => AcceptMode::Reuseport,
                AcceptArg::Shared => AcceptMode::Shared,
            },
            steer: self.steer.steer(),
            backlog: self.backlog,
            busy_poll: self.busy_poll,
            napi: self.napi,
            stamp: self.stamp,
            stall: self.stall,
            pool: self.pool,
            buffer_size: self.buffer,
            credit: self.credit,
            max_connections: self.max_connections,
            max_per_ip: self.max_per_ip,
            ipv6_prefix: self.ipv6_prefix,
            idle_timeout: self.idle_timeout,
            write_timeout: Some(self.write_timeout),
            min_drain: self.min_drain,
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
            takeover: self.takeover.clone(),
            sandbox: self.sandbox.mode(),
            log_peers: tracing::enabled!(target: PEER_LOG, Level::DEBUG),
            ..Config::default()
        };
        let workers = match (self.workers, &config.cpus) {
            (Some(workers), _) => workers,
            (None, Some(cpus)) => NonZeroUsize::new(cpus.len()).unwrap_or(NonZeroUsize::MIN),
            (None, None) => config.workers,
        };
        Ok(Config { workers, ..config })
    }
}

/// Bytes of memory; the pool as a whole has fewer than 4 GiB.
fn bytes(text: &str) -> Result<NonZeroU32, ValueError> {
    let size = values::size(1..=u64::from(u32::MAX))(text)?;
    Ok(NonZeroU32::new(size).expect("at least 1"))
}

/// A number of connections.
fn connections(text: &str) -> Result<NonZeroU32, ValueError> {
    let count = values::count(1..=u64::from(u32::MAX))(text)?;
    Ok(NonZeroU32::new(count).expect("at least 1"))
}

/// A worker returns to its loop at least this often, for its counters.
const MOST_BUSY_POLL_MICROS: u64 = 1_000_000;

fn parse_napi(text: &str) -> Result<NonZeroU32, String> {
    let micros = text.parse().ok().filter(|micros| u64::from(*micros) <= MOST_BUSY_POLL_MICROS);
    let micros = micros.and_then(NonZeroU32::new);
    micros.ok_or_else(|| "expected microseconds, from 1 to 1000000".to_owned())
}

fn parse_busy_poll(text: &str) -> Result<BusyPoll, String> {
    match text {
        "auto" => Ok(BusyPoll::Auto),
        "off" | "0" => Ok(BusyPoll::Off),
        "always" => Ok(BusyPoll::Always),
        micros => {
            let micros = micros.parse().ok().filter(|micros| *micros <= MOST_BUSY_POLL_MICROS);
            let time = micros.map(|micros| BusyPoll::For(Duration::from_micros(micros)));
            time.ok_or_else(|| {
                "expected auto, off, always or a number of microseconds up to 1000000".to_owned()
            })
        }
    }
}

fn parse_stall(text: &str) -> Result<Stall, String> {
    let (length, every) = text.split_once('/').ok_or("expected LENGTH/EVERY, as in 100ms/2s")?;
    let part = |text| values::duration(Zero::Allowed)(text).map_err(|error| error.to_string());
    let stall = Stall { length: part(length)?, every: part(every)? };
    if stall.length.is_zero() || stall.length >= stall.every {
        return Err("LENGTH must be more than nothing and less than EVERY".to_owned());
    }
    Ok(stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_stalls_are_read() {
        assert_eq!(bytes("64k").map(NonZeroU32::get), Ok(65536));
        assert!(["0", "4g"].into_iter().all(|text| bytes(text).is_err()));
        assert_eq!(connections("20k").map(NonZeroU32::get), Ok(20_000));
        let stall = parse_stall("100ms/2s").expect("a stall");
        assert_eq!((stall.length.as_millis(), stall.every.as_secs()), (100, 2));
        assert!(["100ms", "2s/1s", "0s/1s", "x/y"].into_iter().all(|t| parse_stall(t).is_err()));
    }

    #[test]
    fn busy_poll_modes_are_read_as_they_are_written() {
        for text in ["auto", "off", "always", "50", "1000000"] {
            assert_eq!(parse_busy_poll(text).map(|mode| mode.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(parse_busy_poll("0"), Ok(BusyPoll::Off));
        for text in ["", "on", "-1", "1000001", "18446744073709551616"] {
            assert!(parse_busy_poll(text).is_err_and(|error| error.contains("always")), "{text}");
        }
    }

    #[test]
    fn microseconds_of_napi_are_between_one_and_a_second() {
        assert_eq!(parse_napi("50"), Ok(NonZeroU32::new(50).expect("50")));
        assert!(
            ["", "0", "off", "1000001", "-1"].into_iter().all(|text| parse_napi(text).is_err())
        );
    }

    #[test]
    fn later_flags_win_and_listen_adds_up() {
        let args = ["x", "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--log", "text"];
        let args = ServeArgs::try_parse_from(args.into_iter().chain(["--log", "json"]));
        let args = args.expect("well-formed");
        assert_eq!(args.listen, ["127.0.0.1:0", "[::1]:0"]);
        assert!(matches!(args.log, LogFormat::Json));
    }
}
