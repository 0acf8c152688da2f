//! What it takes to hold many connections, and whether this machine has it.
//!
//! Pure functions: [`Room`] is what the machine has, read by [`super::room`].

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::sources::SOURCES_MAX;

mod buckets;

pub use buckets::{hash_buckets, hash_table_bytes};

/// What was asked for, as far as it decides what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Connections to hold.
    pub connections: u32,
    /// Whether the server is on this machine, so that both ends are.
    pub both_ends: bool,
    /// What holds them.
    pub holders: HolderKind,
}

/// What holds connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderKind {
    /// Rings, in their tables of direct descriptors.
    Rings,
    /// Processes with blocking sockets, a descriptor each.
    Processes,
}

/// What this machine has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// RLIMIT_NOFILE, the hard limit.
    pub nofile: u32,
    /// `fs.nr_open`, which no RLIMIT_NOFILE exceeds.
    pub nofile_most: Option<u64>,
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Local ports of a source address.
    pub ports: u64,
    /// Each bound of memory.
    pub memory: Vec<MemoryLeft>,
    /// Open files that the machine may still have; `None` if this process is exempt.
    pub files: Option<u64>,
    /// Entries of connection tracking that are free; `None` if it does not look.
    pub conntrack: Option<u64>,
}

/// Memory that may still be used, as far as one bound is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLeft {
    /// What sets the bound.
    pub bound: MemoryBound,
    /// Bytes.
    pub left: u64,
}

/// What bounds memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryBound {
    /// The machine: `MemAvailable`.
    Machine,
    /// A control group, by the file with its limit.
    Group(String),
}

/// Why the connections cannot be held here. Every message has what is needed, what there is, and
/// the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Memory.
    #[error(
        "{connections} connections take about {} ({}), but {} {} and {} of that is left alone: \
         hold at most {fits}{}",
        size(need.total()), need, place(bound), size(*left), size(kept(*left)),
        memory_remedy(bound)
    )]
    Memory {
        /// How many.
        connections: u32,
        /// What they need.
        need: MemoryNeed,
        /// What is short.
        bound: MemoryBound,
        /// Bytes of it.
        left: u64,
        /// The most that fit.
        fits: u32,
    },
    /// Client ports.
    #[error(
        "{connections} connections to one address take as many local ports, but {sources} source \
         address(es) with {ports} each give {}: add addresses with --source (all of 127.0.0.0/8 \
         works to a server there), or widen net.ipv4.ip_local_port_range", sources * ports
    )]
    Ports {
        /// How many.
        connections: u32,
        /// Source addresses.
        sources: u64,
        /// Ports of each.
        ports: u64,
    },
    /// Open files of the whole machine.
    #[error(
        "{connections} connections take {needed} open files ({ends} a connection), but \
         fs.file-max leaves {left}: sysctl fs.file-max={}, or hold at most {}",
        needed.saturating_mul(2), left / u64::from(*ends)
    )]
    Files {
        /// How many.
        connections: u32,
        /// Files for them.
        needed: u64,
        /// Files of one connection on this machine.
        ends: u32,
        /// What the machine may still open.
        left: u64,
    },
    /// The table of connection tracking.
    #[error(
        "connection tracking looks at these connections, and {connections} need as many entries, \
         of which {free} are free; with a full table the kernel drops SYNs silently: run it where \
         nothing is tracked (--private-network, or unshare -n sh -c 'ip link set lo up; exec \
         loadgen hold …'), or raise net.netfilter.nf_conntrack_max"
    )]
    Conntrack {
        /// How many.
        connections: u32,
        /// Entries that are free.
        free: u64,
    },
    /// Descriptors of a process.
    #[error(
        "RLIMIT_NOFILE {nofile}: {what} hold {fits} connections, not {connections}: raise it \
         (ulimit -n, LimitNOFILE=, docker run --ulimit nofile=){}, or hold fewer",
        most(*nofile_most)
    )]
    Descriptors {
        /// How many.
        connections: u32,
        /// What has too few.
        what: String,
        /// The limit.
        nofile: u32,
        /// What the limit can be raised to.
        nofile_most: Option<u64>,
        /// The most that it allows.
        fits: u64,
    },
}

/// Memory for connections, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The kernel's.
    pub kernel: u64,
    /// Of a connection in it.
    pub each: u64,
    /// The embedded server's.
    pub server: u64,
    /// That of what holds the connections.
    pub holders: u64,
}

impl MemoryNeed {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.kernel + self.server + self.holders
    }
}

impl std::fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kernel, each, server, holders } = *self;
        write!(f, "{} of kernel memory at {each} bytes each", size(kernel))?;
        if server > 0 {
            write!(f, ", {} for the server", size(server))?;
        }
        write!(f, ", {} to hold them", size(holders))
    }
}

/// What opens and holds the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holders {
    /// Connections of each ring, and how many threads fill them.
    Rings(Vec<u32>, u32),
    /// Connections of a process, at most.
    Processes(u32),
}

/// How the connections are shared out.
///
/// # Errors
/// [`NoRoom::Descriptors`].
pub fn holders(wanted: Wanted, room: &Room) -> Result<Holders, NoRoom> {
    let (connections, nofile) = (wanted.connections, room.nofile);
    let refused = |what: &str, fits| NoRoom::Descriptors {
        connections,
        what: what.into(),
        nofile,
        nofile_most: room.nofile_most,
        fits,
    };
    let usable = nofile.saturating_sub(OTHER_DESCRIPTORS);
    if wanted.holders == HolderKind::Processes {
        let fits = u64::from(usable) * u64::from(PROCESSES_MAX);
        let fit = usable > 0 && u64::from(connections) <= fits;
        let refusal = || refused("as many processes as make sense can", fits);
        return fit.then_some(Holders::Processes(usable)).ok_or_else(refusal);
    }
    let table = nofile.min(TABLE_MAX);
    let fits = u64::from(table) * u64::from(usable.min(RINGS_MAX));
    if u64::from(connections) > fits {
        return Err(refused("the rings that a process may have", fits));
    }
    let threads = room.cpus.min(connections.div_ceil(WORTH_A_THREAD)).max(1);
    let rings = connections.div_ceil(table).max(threads);
    let (each, more) = (connections / rings, connections % rings);
    let shares = (0..rings).map(|index| each + u32::from(index < more)).collect();
    Ok(Holders::Rings(shares, threads))
}

/// What the user has told the embedded server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivenToServer {
    /// `--workers`.
    pub workers: Option<u32>,
    /// `--pool` or `--credit`.
    pub pool: bool,
    /// `--busy-poll`.
    pub busy_poll: bool,
    /// An engine whose workers have no tables of their own, as far as is known.
    pub shares_descriptors: bool,
}

/// What the embedded server is told beside that, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerChoice {
    /// Arguments.
    pub args: Vec<String>,
    /// Why these; a line each.
    pub reasons: Vec<String>,
    /// Its memory, at most, in bytes.
    pub memory: u64,
    /// Workers whose tables are counted on; `None` if there is one table for all.
    pub workers: Option<u32>,
}

/// What an embedded server needs to accept all.
///
/// # Errors
/// [`NoRoom::Descriptors`].
pub fn server(connections: u32, given: GivenToServer, room: &Room) -> Result<ServerChoice, NoRoom> {
    let refused = |what: String, fits| NoRoom::Descriptors {
        connections,
        what,
        nofile: room.nofile,
        nofile_most: room.nofile_most,
        fits,
    };
    if given.shares_descriptors {
        let fits = u64::from(room.nofile.saturating_sub(OTHER_DESCRIPTORS));
        if u64::from(connections) > fits {
            let what = "the descriptors of the server, which its workers share,";
            return Err(refused(what.into(), fits));
        }
        return Ok(ServerChoice::untold(u64::from(connections) * SERVER_BYTES_EACH));
    }
    let table = room.nofile.min(SERVER_TABLE);
    let workers = match given.workers {
        Some(workers) if largest_share(connections, workers) > table => {
            let what = format!("the tables of --workers {workers}, among which connections fall");
            let fits = u64::from(workers) * u64::from(table);
            return Err(refused(what + " at random,", fits));
        }
        Some(workers) => workers,
        None => enough_workers(connections, table, room.cpus)
            .ok_or_else(|| refused("as many workers as make sense".into(), 0))?,
    };
    let mut choice = ServerChoice::untold(0);
    choice.workers = Some(workers);
    if given.workers.is_none() && workers > room.cpus {
        choice.tell("--workers", workers.to_string());
        let of = format!("each has a table of {table} (RLIMIT_NOFILE), connections fall at random");
        choice.reasons.push(format!("--workers {workers}: {of}"));
    }
    if workers > room.cpus && !given.busy_poll {
        choice.tell("--busy-poll", "off".into());
        let reason = format!("--busy-poll off: more workers than CPUs ({})", room.cpus);
        choice.reasons.push(reason);
    }
    let pool = choice.choose_pool(workers, given.pool);
    choice.memory = u64::from(workers) * (u64::from(table) * SERVER_BYTES_EACH + pool + RING_BYTES);
    Ok(choice)
}

impl ServerChoice {
    fn untold(memory: u64) -> Self {
        Self { args: Vec::new(), reasons: Vec::new(), memory, workers: None }
    }

    fn tell(&mut self, flag: &str, value: String) {
        self.args.extend([flag.to_owned(), value]);
    }

    /// Bytes of a worker's pool, and of the smallest ones that suffice for one message each.
    fn choose_pool(&mut self, workers: u32, given: bool) -> u64 {
        let pool = (POOLS / u64::from(workers)).clamp(POOL_LEAST, POOL);
        let pool = 1 << pool.ilog2();
        if given || pool == POOL {
            return POOL;
        }
        let credit = (pool / 16).max(CREDIT_LEAST);
        let (pool_k, credit_k) = (pool >> 10, credit >> 10);
        self.tell("--pool", format!("{pool_k}k"));
        self.tell("--credit", format!("{credit_k}k"));
        self.reasons.push(format!(
            "--pool {pool_k}k --credit {credit_k}k: {} of buffers in all workers, not {}",
            size(pool * u64::from(workers)),
            size(POOL * u64::from(workers))
        ));
        pool
    }
}

/// The fewest workers, but one a CPU, whose tables have room for their shares.
fn enough_workers(connections: u32, table: u32, cpus: u32) -> Option<u32> {
    let suffices = |workers: &u32| largest_share(connections, *workers) <= table;
    (cpus..=WORKERS_MAX.max(cpus)).find(suffices)
}

/// The most connections that one of `workers` gets if each goes to any: five standard deviations
/// above the mean, which one in a million such servers exceeds.
fn largest_share(connections: u32, workers: u32) -> u32 {
    let mean = f64::from(connections) / f64::from(workers.max(1));
    let above = if workers == 1 { 0.0 } else { 5.0 * mean.sqrt() };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let most = (mean + above).ceil() as u32;
    most.min(connections)
}

/// Networks to connect from; empty leaves it to the kernel. A server on 127.0.0.0/8 is reached from
/// all addresses there. The kernel looks for a free port at random among every second one first, so
/// no address is used for more than half of its ports.
#[must_use]
pub fn sources(target: SocketAddr, connections: u32, ports: u64) -> Option<IpNet> {
    let IpAddr::V4(ip) = target.ip().to_canonical() else { return None };
    if !ip.is_loopback() || target.is_ipv6() {
        return None;
    }
    let needed = u64::from(connections).div_ceil((ports / 2).max(1));
    let bits = (LEAST_SOURCE_BITS..=16).find(|bits| (1 << bits) - 2 >= needed)?;
    let length = u8::try_from(32 - bits).expect("16 to 25");
    Some(IpNet::new([127, 0, 0, 0].into(), length).expect("a length of at most 32"))
}

/// Whether the ports of `sources` addresses suffice; 0 addresses are the one that the kernel
/// chooses.
///
/// # Errors
/// [`NoRoom::Ports`].
pub fn check_ports(connections: u32, sources: u64, room: &Room) -> Result<(), NoRoom> {
    let (sources, ports) = (sources.clamp(1, SOURCES_MAX as u64), room.ports);
    if u64::from(connections) > sources * ports {
        return Err(NoRoom::Ports { connections, sources, ports });
    }
    Ok(())
}

/// Whether the machine has what they take.
///
/// # Errors
/// [`NoRoom`] of the first thing that is short.
pub fn check(wanted: Wanted, server_memory: u64, room: &Room) -> Result<MemoryNeed, NoRoom> {
    let Wanted { connections, both_ends, holders } = wanted;
    let ends = if both_ends { 2 } else { 1 };
    let client = match holders {
        HolderKind::Rings => KERNEL_BYTES_AN_END,
        HolderKind::Processes => KERNEL_BYTES_AN_END + DESCRIPTOR_BYTES,
    };
    let each = if both_ends { client + KERNEL_BYTES_AN_END } else { client };
    let count = u64::from(connections);
    let need = MemoryNeed {
        kernel: count * each,
        each,
        server: server_memory,
        holders: count * HOLDER_BYTES_EACH + (4 << 20),
    };
    for MemoryLeft { bound, left } in &room.memory {
        let usable = left - kept(*left);
        if need.total() > usable {
            let fits = usable.saturating_sub(need.server) / (each + HOLDER_BYTES_EACH);
            let fits = u32::try_from(fits).unwrap_or(u32::MAX);
            return Err(NoRoom::Memory {
                connections,
                need,
                bound: bound.clone(),
                left: *left,
                fits,
            });
        }
    }
    let needed = count * u64::from(ends);
    if let Some(left) = room.files.filter(|left| needed > *left) {
        return Err(NoRoom::Files { connections, needed, ends, left });
    }
    match room.conntrack {
        Some(free) if count > free => Err(NoRoom::Conntrack { connections, free }),
        _ => Ok(need),
    }
}

/// Of what is left of memory, the part that is left alone: the estimate may be short, and others
/// need some.
fn kept(left: u64) -> u64 {
    left / 8
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

fn place(bound: &MemoryBound) -> String {
    match bound {
        MemoryBound::Machine => "MemAvailable is".into(),
        MemoryBound::Group(file) => format!("the control group ({file}) has left"),
    }
}

fn memory_remedy(bound: &MemoryBound) -> &'static str {
    match bound {
        MemoryBound::Machine => ", or free memory",
        MemoryBound::Group(_) => {
            ", or raise the group's limit (docker run --memory, MemoryMax=, resources.limits)"
        }
    }
}

fn most(nofile_most: Option<u64>) -> String {
    nofile_most.map_or_else(String::new, |most| format!(", at most to fs.nr_open {most}"))
}

/// Slab of one end of a connection, rounded up: for both in tables of rings 8,830 bytes were
/// measured with a million, and 9,738 with a descriptor at one of them.
const KERNEL_BYTES_AN_END: u64 = 4608;
const DESCRIPTOR_BYTES: u64 = 1024;
/// What a ring keeps of a connection, and its share of the ring.
const HOLDER_BYTES_EACH: u64 = 64;
/// What a worker keeps of a connection, with its stamp.
const SERVER_BYTES_EACH: u64 = 192;
/// A worker's ring, stack and counters.
const RING_BYTES: u64 = 512 << 10;
/// The most entries of a worker's table, and of a holder's.
const SERVER_TABLE: u32 = 32 << 10;
const TABLE_MAX: u32 = 32 << 10;
/// Descriptors of a process for everything else.
const OTHER_DESCRIPTORS: u32 = 200;
/// More are a mistake rather than a plan.
const WORKERS_MAX: u32 = 512;
const PROCESSES_MAX: u32 = 512;
const RINGS_MAX: u32 = 1024;
/// Connections for which a thread more pays.
const WORTH_A_THREAD: u32 = 1000;
/// Pools of all workers together, the default of one, and the least.
const POOLS: u64 = 128 << 20;
const POOL: u64 = 16 << 20;
const POOL_LEAST: u64 = 1 << 20;
const CREDIT_LEAST: u64 = 64 << 10;
/// 126 addresses.
const LEAST_SOURCE_BITS: u32 = 7;

#[cfg(test)]
mod tests;
