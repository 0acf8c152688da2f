//! Can this run happen at all? Ports, descriptors and tracked connections, counted beforehand.
//!
//! [`Resources`] are gathered from `/proc` and the process's limits; [`Budget::check`] is a pure
//! function over them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use uring_echo::sys::procfs::sysctl_number;
use uring_echo::sys::{conntrack, descriptors};

use crate::model::load::Close;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::plan::sources::{Sources, UnusableSource};
use crate::sys::ports;

/// Descriptors that are not connections: rings, files, the server's pipes, standard streams.
pub const DESCRIPTORS_APART: u64 = 64;

/// What the machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Local ports for one source and one destination, without the reserved ones.
    pub ports: u64,
    /// Source addresses, at least 1.
    pub sources: u64,
    /// How long an orderly close keeps a port from the same destination.
    pub time_wait: Duration,
    /// Open descriptors allowed, after raising the soft limit; `None` without a limit.
    pub nofile: Option<u64>,
    /// Sockets the generator keeps ready beside those in flight.
    pub prepared: u64,
    /// Connection tracking, if this network namespace uses it.
    pub conntrack: Option<ConntrackRoom>,
}

/// The connection tracking table before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackRoom {
    /// Entries in use.
    pub count: u64,
    /// Entries that fit.
    pub limit: u64,
    /// How long an entry stays after RST.
    pub hold_rst: Duration,
    /// How long an entry stays after an orderly close.
    pub hold_fin: Duration,
}

/// What the run takes, beside what there is. `Display` is what the user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    ports: Need,
    sources: u64,
    descriptors: Need,
    conntrack: Option<Need>,
}

/// The run cannot happen as asked. Every message ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// A source address is not this machine's.
    #[error(transparent)]
    Source(#[from] UnusableSource),
    /// The shape alone is over the cap: the surplus would be shed every time.
    #[error(
        "the load wants {wanted} connections open at once, but --max-in-flight is {cap}: \
         raise --max-in-flight or ask for fewer"
    )]
    OverMaxInFlight {
        /// Connections at one instant.
        wanted: u64,
        /// The cap.
        cap: u64,
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
         {DESCRIPTORS_APART} others), but the limit is {limit}: lower --max-in-flight to {fits} \
         or raise the limit (ulimit -n)"
    )]
    Descriptors {
        /// Descriptors at once.
        needed: u64,
        /// RLIMIT_NOFILE.
        limit: u64,
        /// Connections in flight, at most.
        in_flight: u64,
        /// Sockets kept ready.
        prepared: u64,
        /// The largest --max-in-flight that fits.
        fits: u64,
    },
    /// The connection tracking table would run full, and the kernel would drop SYNs silently.
    #[error(
        "the run leaves {needed} connection tracking entries, but {free} of {limit} are free: \
         lower the rate, use --close rst, raise net.netfilter.nf_conntrack_max, or run in a \
         network namespace of its own (unshare -n)"
    )]
    Conntrack {
        /// Entries at once.
        needed: u64,
        /// Entries free now.
        free: u64,
        /// Size of the table.
        limit: u64,
    },
}

impl Resources {
    /// Looks at this machine. Raises the soft descriptor limit on the way.
    ///
    /// # Errors
    /// When a limit or the port range cannot be read or raised.
    pub fn gather(config: &RunConfig, prepared: u32) -> io::Result<Self> {
        let range = ports::local_range().ok_or_else(|| {
            io::Error::other("/proc/sys/net/ipv4/ip_local_port_range cannot be read")
        })?;
        let sources = Sources::expand(&config.sources).len().max(1);
        Ok(Self {
            ports: ports::usable(range),
            sources: u64::try_from(sources).map_err(io::Error::other)?,
            time_wait: time_wait(config.target.is_none_or(|t| is_loopback(t.ip()))),
            nofile: descriptors::raise_limit()?.soft,
            prepared: prepared.into(),
            conntrack: ConntrackRoom::read(),
        })
    }
}

impl ConntrackRoom {
    fn read() -> Option<Self> {
        let hold = |state, usual| {
            conntrack::tcp_timeout(state).unwrap_or_else(|| Duration::from_secs(usual))
        };
        // A namespace without a single entry does not track, even where the table exists.
        let usage = conntrack::usage().filter(|usage| usage.count > 0)?;
        Some(Self {
            count: usage.count,
            limit: usage.limit,
            hold_rst: hold("close", 10),
            hold_fin: hold("time_wait", 120),
        })
    }
}

impl Budget {
    /// Compares what the run takes with what there is.
    ///
    /// # Errors
    /// [`PreflightError`] names the first thing that cannot suffice.
    pub fn check(resources: &Resources, config: &RunConfig) -> Result<Self, PreflightError> {
        let at_once = u64::from(config.shape.at_once());
        let cap = u64::from(config.max_in_flight);
        if at_once > cap {
            return Err(PreflightError::OverMaxInFlight { wanted: at_once, cap });
        }
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
            Some(need) => write!(f, ", conntrack entries {need}"),
            None => write!(f, ", conntrack not in use"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    needed: u64,
    available: Option<u64>,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.available {
            Some(available) => write!(f, "{} of {available}", self.needed),
            None => write!(f, "{} (no limit)", self.needed),
        }
    }
}

fn check_ports(resources: &Resources, config: &RunConfig) -> Result<Need, PreflightError> {
    let hold = match config.close {
        Close::Rst => Duration::ZERO,
        Close::Fin => resources.time_wait,
    };
    let needed = held_at_once(config, hold);
    let available = resources.ports.saturating_mul(resources.sources);
    if needed > available {
        let (per_source, sources) = (resources.ports, resources.sources);
        return Err(PreflightError::Ports { needed, available, per_source, sources });
    }
    Ok(Need { needed, available: Some(available) })
}

fn check_descriptors(resources: &Resources, in_flight: u64) -> Result<Need, PreflightError> {
    let apart = resources.prepared + DESCRIPTORS_APART;
    let needed = in_flight + apart;
    match resources.nofile {
        Some(limit) if needed > limit => Err(PreflightError::Descriptors {
            needed,
            limit,
            in_flight,
            prepared: resources.prepared,
            fits: limit.saturating_sub(apart),
        }),
        available => Ok(Need { needed, available }),
    }
}

fn check_conntrack(table: ConntrackRoom, config: &RunConfig) -> Result<Need, PreflightError> {
    let hold = match config.close {
        Close::Rst => table.hold_rst,
        Close::Fin => table.hold_fin,
    };
    let (needed, limit) = (held_at_once(config, hold), table.limit);
    let free = limit.saturating_sub(table.count);
    if needed > free {
        return Err(PreflightError::Conntrack { needed, free, limit });
    }
    Ok(Need { needed, available: Some(free) })
}

/// Connections that are open or held for `hold` after they ended, at most, if the server answers
/// at once. A closed loop's rate is not known beforehand: it counts with what it keeps open.
fn held_at_once(config: &RunConfig, hold: Duration) -> u64 {
    let at_once = u64::from(config.shape.at_once());
    let held = match config.shape {
        Shape::Rate { per_second, .. } => scaled(per_second, hold.min(run_length(config))),
        Shape::Burst { count, every: Some(every) } => {
            let rate = f64::from(count.get()) / every.as_secs_f64();
            scaled(rate, hold.min(run_length(config)))
        }
        Shape::Burst { every: None, .. } | Shape::Closed { .. } => 0,
    };
    at_once.max(held)
}

/// From the first planned arrival to the last.
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

fn scaled(per_second: f64, hold: Duration) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates are positive")]
    let held = (per_second * hold.as_secs_f64()).ceil() as u64;
    held
}

/// TIME_WAIT lasts 60 s (`TCP_TIMEWAIT_LEN`). With `tcp_tw_reuse` 1, or 2 (the default since 4.19)
/// on loopback, connect may take the port again after a second (`tcp_tw_reuse_delay`, in ms).
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
    };

    const TABLE: ConntrackRoom = ConntrackRoom {
        count: 144,
        limit: 262_144,
        hold_rst: Duration::from_secs(10),
        hold_fin: Duration::from_secs(120),
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
    fn orderly_close_needs_ports_for_as_long_as_time_wait() {
        let error = check("--close fin --rate 3000", &RESOURCES).unwrap_err();
        assert!(matches!(error, PreflightError::Ports { needed: 30_000, .. }), "{error}");
        assert!(error.to_string().contains("--source"), "{error}");
        assert!(check("--close fin --rate 3000 --connections 20k", &RESOURCES).is_ok());
        assert!(check("--close fin --rate 3000", &Resources { sources: 2, ..RESOURCES }).is_ok());
        let reused = Resources { time_wait: Duration::from_secs(1), ..RESOURCES };
        assert!(check("--close fin --rate 20k --duration 60s", &reused).is_ok());
    }

    #[test]
    fn descriptors_bound_what_may_be_in_flight() {
        let error = check("--burst 20k", &RESOURCES).unwrap_err();
        assert!(matches!(error, PreflightError::Descriptors { fits: 19_680, .. }), "{error}");
        assert!(check("--burst 20k", &Resources { nofile: None, ..RESOURCES }).is_ok());
        assert!(check("--burst 19680", &RESOURCES).is_ok());
    }

    #[test]
    fn a_shape_over_its_own_cap_is_refused() {
        let error = check("--burst 100 --max-in-flight 99", &RESOURCES).unwrap_err();
        assert_eq!(error, PreflightError::OverMaxInFlight { wanted: 100, cap: 99 });
        assert!(check("--concurrency 100 --max-in-flight 99", &RESOURCES).is_err());
    }

    #[test]
    fn tracked_connections_count_for_as_long_as_their_entries_stay() {
        let resources = Resources { conntrack: Some(TABLE), sources: 20, ..RESOURCES };
        assert!(check("--rate 20k --duration 60s", &resources).is_ok());
        assert!(check("--rate 30k --duration 60s", &resources).is_err());
        assert!(check("--rate 30k --duration 5s", &resources).is_ok());
        let error = check("--rate 3000 --close fin --duration 5m", &resources).unwrap_err();
        assert!(matches!(error, PreflightError::Conntrack { needed: 360_000, .. }), "{error}");
    }

    #[test]
    fn this_machine_can_be_asked() {
        let resources = Resources::gather(&config("--source 127.1.0.0/30"), 8).unwrap();
        assert_eq!((resources.sources, resources.prepared), (2, 8));
        assert!(resources.ports > 0);
    }
}
