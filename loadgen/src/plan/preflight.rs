//! Checks before the run that local ports, descriptors and conntrack entries suffice.
//!
//! [`Resources`] are read from `/proc` and the process's limits; [`Budget::check`] is a pure
//! function of them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::io::Errno;
use uring_echo::sys::procfs::sysctl_number;
use uring_echo::sys::{conntrack, descriptors};

use crate::model::load::Close;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::sources::{Sources, UnusableSource};
use crate::sys::{cpus, ports};

/// Descriptors that are not connections: rings, files, the server's pipes, standard streams.
pub const OTHER_DESCRIPTORS: u64 = 64;

/// The resources of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Local ports per source and destination, without the reserved ones.
    pub ports: u64,
    /// Source addresses, at least 1.
    pub sources: u64,
    /// How long a port cannot be used again for the same destination after a close by FIN.
    pub time_wait: Duration,
    /// Open descriptors allowed, after raising the soft limit; `None` without a limit.
    pub nofile: Option<u64>,
    /// Sockets that the generator prepares in addition to those in flight.
    pub prepared: u64,
    /// Connection tracking, if this network namespace uses it.
    pub conntrack: Option<ConntrackTable>,
    /// Of the generator's CPUs as configured, those it may use; `None` if none are configured.
    pub cpus: Option<Vec<usize>>,
}

/// The connection tracking table before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackTable {
    /// Entries in use.
    pub count: u64,
    /// The maximum number of entries.
    pub limit: u64,
    /// How long an entry is kept after a close by RST.
    pub kept_after_rst: Duration,
    /// How long an entry is kept after a close by FIN.
    pub kept_after_fin: Duration,
}

/// What the run needs and what is available. `Display` is the line shown to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    ports: Requirement,
    sources: u64,
    descriptors: Requirement,
    conntrack: Option<Requirement>,
}

/// The run is not possible as configured. Every message ends with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// A source address is not one of this machine.
    #[error(transparent)]
    Source(#[from] UnusableSource),
    /// The shape alone exceeds the cap: the excess would always be shed.
    #[error(
        "the load wants {wanted} connections open at once, but --max-in-flight is {cap}: \
         raise --max-in-flight or ask for fewer"
    )]
    OverMaxInFlight {
        /// Connections opened at one instant.
        wanted: u64,
        /// `--max-in-flight`.
        cap: u64,
    },
    /// The generator cannot run where it is to run.
    #[error(
        "--cpus names CPU {missing}, which this process may not use (it may use {usable}): the \
         machine has no such CPU, or its cpuset leaves it out"
    )]
    Cpus {
        /// The CPUs that cannot be used.
        missing: String,
        /// Those of the list that can, or of the process if none can.
        usable: String,
    },
    /// No address of this machine can talk to the server's.
    #[error("no local address reaches {target} ({cause}): {remedy}")]
    NoLocalAddress {
        /// The server.
        target: SocketAddr,
        /// What the kernel said.
        cause: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Not enough local ports.
    #[error(
        "the run takes {needed} local ports at once, but {sources} source address(es) with \
         {per_source} ports each give {available}: add addresses with --source (127.1.0.0/24 \
         works on loopback without set-up), use --close rst, or lower the rate"
    )]
    Ports {
        /// Ports in use or in TIME_WAIT at once.
        needed: u64,
        /// Ports over all sources.
        available: u64,
        /// Ports of one source.
        per_source: u64,
        /// Source addresses.
        sources: u64,
    },
    /// Not enough descriptors.
    #[error(
        "up to {needed} descriptors are needed ({in_flight} in flight, {prepared} prepared, \
         {OTHER_DESCRIPTORS} others), but the limit is {limit}: {remedy}raise the limit \
         (ulimit -n)",
        remedy = lower_to(*fits)
    )]
    Descriptors {
        /// Descriptors open at once.
        needed: u64,
        /// RLIMIT_NOFILE.
        limit: u64,
        /// The most connections in flight.
        in_flight: u64,
        /// Prepared sockets.
        prepared: u64,
        /// The largest --max-in-flight that fits; 0 if none does.
        fits: u64,
    },
    /// The connection tracking table would become full, and the kernel would drop SYNs silently.
    #[error(
        "the run leaves {needed} connection tracking entries, but {free} of {limit} are free: \
         lower the rate, use --close rst, raise net.netfilter.nf_conntrack_max, or run in a \
         network namespace of its own (unshare -n)"
    )]
    Conntrack {
        /// Entries in use at once.
        needed: u64,
        /// Entries free now.
        free: u64,
        /// Size of the table.
        limit: u64,
    },
}

impl Resources {
    /// Reads the resources of this machine, after raising the soft descriptor limit.
    ///
    /// # Errors
    /// When the port range cannot be read, or the descriptor limit cannot be read or raised.
    pub fn gather(config: &RunConfig, prepared: u32) -> io::Result<Self> {
        let range = ports::local_range().ok_or_else(|| {
            io::Error::other("/proc/sys/net/ipv4/ip_local_port_range cannot be read")
        })?;
        let sources = Sources::of(config).len().max(1);
        Ok(Self {
            ports: ports::usable(range),
            sources: u64::try_from(sources).map_err(io::Error::other)?,
            time_wait: time_wait(config.target.is_none_or(|t| is_loopback(t.ip()))),
            nofile: descriptors::raise_limit()?.soft,
            prepared: prepared.into(),
            conntrack: ConntrackTable::read(),
            cpus: config.cpus.as_deref().map(cpus::usable).transpose()?,
        })
    }
}

fn lower_to(fits: u64) -> String {
    if fits == 0 { String::new() } else { format!("lower --max-in-flight to {fits} or ") }
}

impl ConntrackTable {
    fn read() -> Option<Self> {
        let timeout = |state, default_s| {
            conntrack::tcp_timeout(state).unwrap_or_else(|| Duration::from_secs(default_s))
        };
        // A namespace without entries does not track connections, even where the table exists.
        let usage = conntrack::usage().filter(|usage| usage.count > 0)?;
        Some(Self {
            count: usage.count,
            limit: usage.limit,
            kept_after_rst: timeout("close", 10),
            kept_after_fin: timeout("time_wait", 120),
        })
    }
}

impl Budget {
    /// Compares what the run needs with what is available.
    ///
    /// # Errors
    /// [`PreflightError`] names the first resource that does not suffice.
    pub fn check(resources: &Resources, config: &RunConfig) -> Result<Self, PreflightError> {
        let at_once = u64::from(config.own_shape().at_once());
        let cap = u64::from(config.max_in_flight);
        if at_once > cap {
            return Err(PreflightError::OverMaxInFlight { wanted: at_once, cap });
        }
        check_cpus(resources, config)?;
        Ok(Self {
            ports: check_ports(resources, config)?,
            sources: resources.sources,
            descriptors: check_descriptors(resources, cap)?,
            conntrack: resources
                .conntrack
                .map(|table| check_conntrack(table, config))
                .transpose()?,
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.sources == 1 { "source address" } else { "source addresses" };
        write!(f, "preflight: ports {} ({} {from}), ", self.ports, self.sources)?;
        write!(f, "descriptors {}", self.descriptors)?;
        match &self.conntrack {
            Some(entries) => write!(f, ", conntrack entries {entries}"),
            None => write!(f, ", conntrack not in use"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Requirement {
    needed: u64,
    available: Option<u64>,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.available {
            Some(available) => write!(f, "{} of {available}", self.needed),
            None => write!(f, "{} (no limit)", self.needed),
        }
    }
}

fn check_cpus(resources: &Resources, config: &RunConfig) -> Result<(), PreflightError> {
    let (Some(wanted), Some(usable)) = (&config.cpus, &resources.cpus) else { return Ok(()) };
    let missing: Vec<usize> = wanted.iter().copied().filter(|cpu| !usable.contains(cpu)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let usable = if usable.is_empty() { "none of the list".into() } else { list(usable) };
    Err(PreflightError::Cpus { missing: list(&missing), usable })
}

/// Whether an address of this machine can talk to the server's: an unconnected socket is asked for
/// the route, and nothing is sent (connect(2) on a datagram socket).
///
/// # Errors
/// [`PreflightError::NoLocalAddress`] where there is none of that family.
pub fn check_local_address(target: SocketAddr) -> Result<(), PreflightError> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let Err(error) = UdpSocket::bind(any).and_then(|socket| socket.connect(target)) else {
        return Ok(());
    };
    match Errno::from_io_error(&error) {
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => {
            let (cause, remedy) = (error.to_string(), no_address_remedy(target));
            Err(PreflightError::NoLocalAddress { target, cause, remedy })
        }
        // No route and no permission are outcomes of the attempts.
        _ => Ok(()),
    }
}

fn no_address_remedy(target: SocketAddr) -> &'static str {
    let off = |scope: &str| {
        sysctl_number::<u8>(&format!("net/ipv6/conf/{scope}/disable_ipv6")) != Some(0)
    };
    if target.is_ipv6() && (off("all") || off("lo")) {
        return "IPv6 is off in this network namespace (net.ipv6.conf.all.disable_ipv6): use the \
                server's IPv4 address (-4 for a name)";
    }
    "this network namespace has no address of that family or scope: bring an interface up, or use \
     another address of the server"
}

fn check_ports(resources: &Resources, config: &RunConfig) -> Result<Requirement, PreflightError> {
    let kept_for = match config.close {
        Close::Rst => Duration::ZERO,
        Close::Fin => resources.time_wait,
    };
    let needed = most_at_once(config, kept_for);
    let available = resources.ports.saturating_mul(resources.sources);
    if needed > available {
        let (per_source, sources) = (resources.ports, resources.sources);
        return Err(PreflightError::Ports { needed, available, per_source, sources });
    }
    Ok(Requirement { needed, available: Some(available) })
}

fn check_descriptors(resources: &Resources, in_flight: u64) -> Result<Requirement, PreflightError> {
    let not_in_flight = resources.prepared + OTHER_DESCRIPTORS;
    let needed = in_flight + not_in_flight;
    match resources.nofile {
        Some(limit) if needed > limit => Err(PreflightError::Descriptors {
            needed,
            limit,
            in_flight,
            prepared: resources.prepared,
            fits: limit.saturating_sub(not_in_flight),
        }),
        available => Ok(Requirement { needed, available }),
    }
}

fn check_conntrack(
    table: ConntrackTable,
    config: &RunConfig,
) -> Result<Requirement, PreflightError> {
    let kept_for = match config.close {
        Close::Rst => table.kept_after_rst,
        Close::Fin => table.kept_after_fin,
    };
    let (needed, limit) = (most_at_once(config, kept_for), table.limit);
    let free = limit.saturating_sub(table.count);
    if needed > free {
        return Err(PreflightError::Conntrack { needed, free, limit });
    }
    Ok(Requirement { needed, available: Some(free) })
}

/// The most connections that are open, or are kept for `kept_for` after they ended, at one instant,
/// if the server answers at once. The rate of a closed loop is not known before the run; only the
/// connections it keeps open are counted.
fn most_at_once(config: &RunConfig, kept_for: Duration) -> u64 {
    let at_once = u64::from(config.own_shape().at_once());
    let within = kept_for.min(run_length(config));
    let kept = match config.own_shape() {
        Shape::Rate { per_second, .. } => connections_within(per_second, within),
        Shape::Burst { count, every: Some(every) } => {
            let rate = f64::from(count.get()) / every.as_secs_f64();
            connections_within(rate, within)
        }
        Shape::Burst { every: None, .. } | Shape::Closed { .. } => 0,
    };
    at_once.max(kept)
}

/// Time from the first scheduled arrival to the last.
fn run_length(config: &RunConfig) -> Duration {
    let measured = match (config.stop, config.shape) {
        (Stop::After(duration), _) => duration,
        (Stop::Connections(n), Shape::Rate { per_second, .. }) => seconds(n, per_second),
        (Stop::Connections(n), Shape::Burst { count, every }) => {
            let rate = f64::from(count.get()) / every.unwrap_or_default().as_secs_f64();
            seconds(n, rate)
        }
        (Stop::Connections(_), Shape::Closed { .. }) => Duration::MAX,
    };
    measured.saturating_add(config.warmup)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn seconds(n: u64, per_second: f64) -> Duration {
    Duration::try_from_secs_f64(n as f64 / per_second).unwrap_or(Duration::MAX)
}

fn connections_within(per_second: f64, time: Duration) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates are positive")]
    let connections = (per_second * time.as_secs_f64()).ceil() as u64;
    connections
}

/// TIME_WAIT takes 60 s (`TCP_TIMEWAIT_LEN`). With `tcp_tw_reuse` 1, or 2 (the default since 4.19)
/// on loopback, connect may reuse the port after one second (`tcp_tw_reuse_delay`, in ms).
fn time_wait(loopback: bool) -> Duration {
    let number = |name: &str| sysctl_number::<u64>(&format!("net/ipv4/{name}"));
    match number("tcp_tw_reuse") {
        Some(1) => {}
        Some(2) if loopback => {}
        _ => return Duration::from_secs(60),
    }
    Duration::from_millis(number("tcp_tw_reuse_delay").unwrap_or(1000))
}

fn is_loopback(addr: IpAddr) -> bool {
    addr.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    const RESOURCES: Resources = Resources {
        ports: 28_232,
        sources: 1,
        time_wait: Duration::from_secs(60),
        nofile: Some(20_000),
        prepared: 256,
        conntrack: None,
        cpus: None,
    };

    const TABLE: ConntrackTable = ConntrackTable {
        count: 144,
        limit: 262_144,
        kept_after_rst: Duration::from_secs(10),
        kept_after_fin: Duration::from_secs(120),
    };

    fn check(args: &str, resources: &Resources) -> Result<Budget, PreflightError> {
        Budget::check(resources, &config(args))
    }

    #[test]
    fn the_default_run_fits_and_prints_its_budget() {
        let budget = check("", &RESOURCES).unwrap().to_string();
        assert_eq!(
            budget,
            "preflight: ports 1 of 28232 (1 source address), descriptors 10320 of 20000, \
             conntrack not in use"
        );
    }

    #[test]
    fn a_close_by_fin_keeps_ports_for_time_wait() {
        let error = check("--close fin --rate 3000", &RESOURCES).unwrap_err();
        assert!(matches!(error, PreflightError::Ports { needed: 30_000, .. }), "{error}");
        assert!(error.to_string().contains("--source"), "{error}");
        assert!(check("--close fin --rate 3000 --connections 20k", &RESOURCES).is_ok());
        assert!(check("--close fin --rate 3000", &Resources { sources: 2, ..RESOURCES }).is_ok());
        let reused = Resources { time_wait: Duration::from_secs(1), ..RESOURCES };
        assert!(check("--close fin --rate 20k --duration 60s", &reused).is_ok());
    }

    #[test]
    fn the_descriptor_limit_bounds_the_connections_in_flight() {
        let error = check("--burst 20k", &RESOURCES).unwrap_err();
        assert!(matches!(error, PreflightError::Descriptors { fits: 19_680, .. }), "{error}");
        assert!(check("--burst 20k", &Resources { nofile: None, ..RESOURCES }).is_ok());
        assert!(check("--burst 19680", &RESOURCES).is_ok());
        let none_fits = Resources { nofile: Some(300), ..RESOURCES };
        let error = check("--burst 1", &none_fits).unwrap_err().to_string();
        assert!(error.ends_with("limit is 300: raise the limit (ulimit -n)"), "{error}");
    }

    #[test]
    fn a_shape_that_exceeds_max_in_flight_is_refused() {
        let error = check("--burst 100 --max-in-flight 99", &RESOURCES).unwrap_err();
        assert_eq!(error, PreflightError::OverMaxInFlight { wanted: 100, cap: 99 });
        assert!(check("--concurrency 100 --max-in-flight 99", &RESOURCES).is_err());
    }

    #[test]
    fn conntrack_entries_count_for_as_long_as_they_are_kept() {
        let resources = Resources { conntrack: Some(TABLE), sources: 20, ..RESOURCES };
        assert!(check("--rate 20k --duration 60s", &resources).is_ok());
        assert!(check("--rate 30k --duration 60s", &resources).is_err());
        assert!(check("--rate 30k --duration 5s", &resources).is_ok());
        let error = check("--rate 3000 --close fin --duration 5m", &resources).unwrap_err();
        assert!(matches!(error, PreflightError::Conntrack { needed: 360_000, .. }), "{error}");
    }

    #[test]
    fn cpus_that_cannot_be_used_are_named() {
        let resources = Resources { cpus: Some(vec![1]), ..RESOURCES };
        assert!(check("--cpus 1", &resources).is_ok());
        let error = check("--cpus 1,99", &resources).unwrap_err().to_string();
        assert!(error.contains("--cpus names CPU 99") && error.contains("may use 1)"), "{error}");
        let here = Resources::gather(&config("--cpus 1023"), 1).unwrap();
        assert_eq!(here.cpus, Some(vec![]));
    }

    #[test]
    fn an_address_that_no_local_one_reaches_is_refused() {
        assert_eq!(check_local_address("127.0.0.1:9".parse().unwrap()), Ok(()));
        // Documentation addresses (RFC 3849): without a route attempts are unreachable.
        assert_eq!(check_local_address("[2001:db8::1]:9".parse().unwrap()), Ok(()));
    }

    #[test]
    fn the_resources_of_this_machine_are_read() {
        let resources = Resources::gather(&config("--source 127.1.0.0/30"), 8).unwrap();
        assert_eq!((resources.sources, resources.prepared), (2, 8));
        assert!(resources.ports > 0);
    }
}
