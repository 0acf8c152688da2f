//! From a configuration to the sizes of a worker's tables, queues and pools; refuses what does not
//! fit.

use std::fmt;
use std::num::NonZeroU32;

use crate::config::Config;
use crate::echo;
use crate::ring::Setup;
use crate::stamp::{Engine, FRAME_LEN};
use crate::sys::cgroup::Limit;
use crate::sys::descriptors;

/// Direct descriptors of one ring where nothing else limits them.
const CONNECTIONS_PER_WORKER: u32 = 32 << 10;
/// Completion slots of a ring: also the most connections one multishot accept can bring at once.
const COMPLETIONS: std::ops::RangeInclusive<u32> = 256..=4096;
const SUBMISSIONS: u32 = 1024;
const BUFFER_SIZES: std::ops::RangeInclusive<u32> = 4 << 10..=64 << 10;
const BUFFERS: std::ops::RangeInclusive<u32> = 4..=32 << 10;
/// What a process has open whatever it serves: standard streams, signals, the log, a step's spare.
const DESCRIPTORS_PER_PROCESS: u32 = 16;
/// What an admin endpoint has open: its listener, its runtime's epoll and eventfd, the files of
/// control groups, and its connections.
const DESCRIPTORS_OF_ADMIN: u32 = 48;
/// How long an accept waits after the system was short of something.
const ACCEPT_BACKOFF_NS: u64 = 10_000_000;
/// A peer may be silent for so long and still read: a lost packet is sent again after 200 ms and a
/// round trip, and a process whose control group has used up its share is stopped for up to 100 ms.
const ROOM_GRACE_NS: u64 = 500_000_000;

/// A configuration whose numbers do not fit together or do not fit this system.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The buffer size is out of range.
    #[error("a buffer of {0} bytes: --buffer takes 4k to 64k")]
    BufferSize(u32),
    /// Too few or too many buffers.
    #[error("--pool {pool} holds {count} buffers of {size} bytes; it must be 4 to 32768 of them")]
    Pool {
        /// Bytes of the pool.
        pool: u32,
        /// Buffers in it.
        count: u32,
        /// Bytes of a buffer.
        size: u32,
    },
    /// One connection could hold too much of the pool.
    #[error(
        "--credit {credit} must be at least one buffer ({size}) and at most half the pool ({pool})"
    )]
    Credit {
        /// Bytes one connection may hold.
        credit: u32,
        /// Bytes of a buffer.
        size: u32,
        /// Bytes of the pool.
        pool: u32,
    },
    /// Fewer connections than workers.
    #[error("--max-connections {wanted} leaves some of {workers} workers without any")]
    FewerThanWorkers {
        /// Connections asked for.
        wanted: u32,
        /// Worker count.
        workers: usize,
    },
    /// More connections than the descriptor limit allows.
    #[error(
        "--max-connections {wanted} is {each} for each of {workers} workers, but RLIMIT_NOFILE \
         allows a table of {nofile}; raise it (ulimit -n, LimitNOFILE=) or use more --workers"
    )]
    Descriptors {
        /// Connections asked for.
        wanted: u32,
        /// Of which one worker takes this many.
        each: u32,
        /// Worker count.
        workers: usize,
        /// The limit.
        nofile: u32,
    },
    /// More connections than the process has descriptors for.
    #[error(
        "--max-connections {wanted}: with --engine {engine} the process's descriptors are shared \
         by all, and RLIMIT_NOFILE {nofile} leaves {left} for connections; raise it (ulimit -n, \
         LimitNOFILE=) or use --engine uring, whose workers have tables of their own"
    )]
    SharedDescriptors {
        /// Connections asked for.
        wanted: u32,
        /// The engine.
        engine: &'static str,
        /// The limit.
        nofile: u32,
        /// What is left of it, all workers together.
        left: u32,
    },
    /// Fewer connections than accepts in flight, each of which keeps one.
    #[error(
        "{each} connections for a worker with {addrs} addresses: --engine tokio-uring keeps one \
         for the accept in flight on each, which it cannot cancel; raise --max-connections \
         (or ulimit -n) or use fewer --workers"
    )]
    FewerThanAddresses {
        /// Connections one worker may have.
        each: u32,
        /// Addresses it listens on.
        addrs: usize,
    },
    /// More listening addresses than an accept loop handles.
    #[error("{0} addresses to listen on; at most 64")]
    Addresses(usize),
}

/// The sizes of one worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// For the echo core.
    pub shard: echo::Limits,
    /// For the ring.
    pub ring: Setup,
    /// Which of them are used depends on it.
    engine: Engine,
}

impl WorkerLimits {
    /// The same for a worker with as many listeners: inherited ones may be several an address.
    ///
    /// # Errors
    /// [`LimitError::Addresses`] if they are too many.
    pub fn with_listeners(mut self, count: usize) -> Result<Self, LimitError> {
        let listeners = u8::try_from(count).ok().filter(|count| *count <= 64);
        self.shard.listeners = listeners.ok_or(LimitError::Addresses(count))?;
        self.ring.listeners = u32::from(self.shard.listeners);
        Ok(self)
    }

    /// Sizes everything for worker `index` of `config`, given a descriptor limit.
    ///
    /// # Errors
    /// [`LimitError`] naming the flag whose value does not fit.
    pub fn resolve(config: &Config, nofile: u32, index: usize) -> Result<Self, LimitError> {
        let (buffers, buffer_size) = pool(config)?;
        let connections = connections(config, nofile, index)?;
        let addrs = config.listen.len();
        let listeners = u8::try_from(addrs)
            .ok()
            .filter(|count| *count <= 64)
            .ok_or(LimitError::Addresses(addrs))?;
        if config.engine == Engine::TokioUring && connections < u32::from(listeners) {
            return Err(LimitError::FewerThanAddresses { each: connections, addrs });
        }
        let largest_power = 1 << (connections / 2).max(1).ilog2();
        let completions = largest_power.clamp(*COMPLETIONS.start(), *COMPLETIONS.end());
        let nanos = |d: std::time::Duration| {
            echo::Nanos(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 2))
        };
        let shard = echo::Limits {
            listeners,
            max_connections: connections,
            accept_burst: completions,
            buffers,
            buffer_size,
            credit: config.credit.get(),
            greeting: if config.stamp { 64 } else { 0 },
            max_per_ip: config.max_per_ip.map(NonZeroU32::get),
            idle_timeout: config.idle_timeout.map(nanos),
            write_timeout: config.write_timeout.map(nanos),
            min_drain: config.min_drain.get(),
            drain_timeout: Some(nanos(config.drain_timeout)),
            accept_backoff: echo::Nanos(ACCEPT_BACKOFF_NS),
            room_grace: echo::Nanos(ROOM_GRACE_NS),
        };
        let ring = Setup {
            // The kernel refuses a ring with fewer completions than submissions (EINVAL).
            submissions: SUBMISSIONS.min(completions),
            completions,
            buffers,
            buffer_size,
            direct: connections,
            staging: if config.stamp { connections as usize * FRAME_LEN } else { 0 },
            listeners: u32::from(listeners),
            // With a limit per address they are known from the accept.
            peers: config.log_peers && config.max_per_ip.is_none(),
            napi: config.napi,
            restricted: true,
        };
        Ok(Self { shard, ring, engine: config.engine })
    }
}

impl WorkerLimits {
    /// The most memory that its buffers and rings take, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let echo::Limits { max_connections, buffers, buffer_size, .. } = self.shard;
        let (count, ring) = match self.engine {
            Engine::Uring => (u32::from(buffers), self.ring.locked_bytes()),
            Engine::Epoll => (u32::from(buffers), 0),
            Engine::TokioUring => (max_connections, self.ring.locked_bytes()),
        };
        u64::from(count) * u64::from(buffer_size) + self.ring.staging as u64 + ring
    }
}

/// A warning if the buffers of all workers may take more memory than `limit` allows.
#[must_use]
pub fn memory_warning(config: &Config, nofile: u32, limit: Option<&Limit>) -> Option<String> {
    let limits = (0..config.workers.get()).flat_map(|n| WorkerLimits::resolve(config, nofile, n));
    let most: u64 = limits.map(|limits| limits.memory_bytes()).sum();
    let Limit { file, value } = limit.filter(|limit| limit.value < most)?;
    let flag = if config.engine == Engine::TokioUring { "--max-connections" } else { "--pool" };
    Some(format!(
        "buffers may take {} MiB, and the control group allows the process {} MiB ({}): lower \
         {flag} or --workers, or raise the limit",
        most >> 20,
        value >> 20,
        file.display()
    ))
}

impl fmt::Display for WorkerLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let echo::Limits { max_connections, buffers, buffer_size, .. } = self.shard;
        write!(f, "{max_connections} connections, ")?;
        if self.engine == Engine::TokioUring {
            write!(f, "a buffer of {buffer_size} bytes for each")?;
        } else {
            let pool = u64::from(buffers) * u64::from(buffer_size);
            write!(f, "{buffers} buffers of {buffer_size} bytes ({} KiB)", pool >> 10)?;
        }
        if self.engine == Engine::Epoll {
            return Ok(());
        }
        write!(f, ", {} KiB locked for the ring", self.ring.locked_bytes() >> 10)
    }
}

fn pool(config: &Config) -> Result<(u16, u32), LimitError> {
    let (pool, size) = (config.pool.get(), config.buffer_size.get());
    if !BUFFER_SIZES.contains(&size) {
        return Err(LimitError::BufferSize(size));
    }
    let count = pool / size;
    let credit = config.credit.get();
    let buffers = u16::try_from(count).ok().filter(|_| BUFFERS.contains(&count));
    let Some(buffers) = buffers else {
        return Err(LimitError::Pool { pool, count, size });
    };
    if credit < size || credit > pool / 2 {
        return Err(LimitError::Credit { credit, size, pool });
    }
    Ok((buffers, size))
}

/// Worker `index`'s share of all connections; the first ones take what does not divide.
fn connections(config: &Config, nofile: u32, index: usize) -> Result<u32, LimitError> {
    let share = share_of_descriptors(config, nofile);
    let Some(wanted) = config.max_connections else {
        return Ok(share.min(CONNECTIONS_PER_WORKER));
    };
    let workers = config.workers.get();
    let wanted = wanted.get();
    let of = u32::try_from(workers).unwrap_or(u32::MAX);
    if wanted < of {
        return Err(LimitError::FewerThanWorkers { wanted, workers });
    }
    let each = wanted / of + u32::from(index < (wanted % of) as usize);
    if each <= share {
        return Ok(each);
    }
    if config.engine == Engine::Uring {
        return Err(LimitError::Descriptors { wanted, each, workers, nofile });
    }
    let (engine, left) = (config.engine.name(), share.saturating_mul(of));
    Err(LimitError::SharedDescriptors { wanted, engine, nofile, left })
}

/// How many connections one worker has descriptors for, at least one. A ring has a table of its
/// own, as long as the limit; other engines share out what the process has.
fn share_of_descriptors(config: &Config, nofile: u32) -> u32 {
    if config.engine == Engine::Uring {
        return nofile;
    }
    let workers = u32::try_from(config.workers.get()).unwrap_or(u32::MAX);
    let addrs = u32::try_from(config.listen.len()).unwrap_or(u32::MAX);
    let own = own_descriptors(config.engine, addrs).saturating_mul(workers);
    (nofile.saturating_sub(own.saturating_add(process_descriptors(config))) / workers).max(1)
}

/// What the process has open whatever its workers have.
const fn process_descriptors(config: &Config) -> u32 {
    match config.admin {
        Some(_) => DESCRIPTORS_PER_PROCESS + DESCRIPTORS_OF_ADMIN,
        None => DESCRIPTORS_PER_PROCESS,
    }
}

/// What a worker has open beside its connections.
const fn own_descriptors(engine: Engine, addrs: u32) -> u32 {
    match engine {
        Engine::Uring | Engine::Epoll => addrs.saturating_add(4),
        // A ring, the runtime's epoll twice and its eventfd, the bell twice, listeners twice.
        Engine::TokioUring => addrs.saturating_mul(2).saturating_add(6),
    }
}

/// Grows the process's descriptor table to what `config` may need, while the process has one thread
/// ([`descriptors::grow_table`] says why).
pub fn grow_descriptor_table(config: &Config) {
    if config.engine == Engine::Uring {
        return;
    }
    let workers = u32::try_from(config.workers.get()).unwrap_or(u32::MAX);
    let most = CONNECTIONS_PER_WORKER.saturating_mul(workers);
    let most = config.max_connections.map_or(most, NonZeroU32::get);
    let most = most.saturating_add(process_descriptors(config));
    if let Err(error) = descriptors::grow_table(most.saturating_sub(1)) {
        tracing::warn!(%error, "the descriptor table grows as connections come");
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use super::*;

    fn config() -> Config {
        Config { workers: NonZeroUsize::new(2).expect("two"), ..Config::default() }
    }

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    #[test]
    fn defaults_fit_a_small_descriptor_limit() {
        for nofile in [64, 1024, 20_000, u32::MAX] {
            let limits = WorkerLimits::resolve(&config(), nofile, 0).expect("fits");
            assert!(limits.ring.direct <= nofile);
            assert_eq!(limits.ring.direct, limits.shard.max_connections);
            assert!(limits.ring.completions.is_power_of_two());
            assert!(limits.ring.submissions <= limits.ring.completions);
        }
    }

    #[test]
    fn connections_are_shared_out_and_checked() {
        let limits = WorkerLimits::resolve(
            &Config { max_connections: Some(some(1001)), ..config() },
            1024,
            0,
        );
        assert_eq!(limits.expect("fits").shard.max_connections, 501);
        let epoll = Config { engine: Engine::Epoll, ..config() };
        let limits = WorkerLimits::resolve(&epoll, 1024, 0).expect("fits");
        assert_eq!(limits.shard.max_connections, (1024 - 16 - 2 * 5) / 2, "both from one table");
        let addrs = vec![config().listen[0]; 3];
        let tokio = Config { engine: Engine::TokioUring, listen: addrs, ..config() };
        let limits = WorkerLimits::resolve(&tokio, 1024, 0).expect("fits");
        assert_eq!(limits.shard.max_connections, (1024 - 16 - 2 * 12) / 2);
        let text = WorkerLimits::resolve(&tokio, 45, 0).expect_err("2 for 3 addresses").to_string();
        assert!(text.contains("2 connections for a worker with 3 addresses"), "{text}");
        let refused = Config { max_connections: Some(some(1000)), ..epoll };
        let text = WorkerLimits::resolve(&refused, 1024, 0).expect_err("too many").to_string();
        assert!(text.contains("RLIMIT_NOFILE 1024 leaves 998"), "{text}");
        let one = Config { max_connections: Some(some(1)), ..config() };
        let text = WorkerLimits::resolve(&one, 1024, 1).expect_err("nothing left").to_string();
        assert!(text.contains("2 workers without any"), "{text}");
        let refused = WorkerLimits::resolve(
            &Config { max_connections: Some(some(4000)), ..config() },
            1024,
            0,
        );
        let text = refused.expect_err("too many").to_string();
        assert!(text.contains("2000") && text.contains("1024"), "{text}");
    }

    #[test]
    fn buffers_that_exceed_the_memory_of_a_control_group_are_told() {
        let limit = |value| Limit { file: "/sys/fs/cgroup/memory.max".into(), value };
        let told = |config: &Config, value| memory_warning(config, 1024, Some(&limit(value)));
        assert_eq!(told(&config(), 64 << 20), None, "twice 16 MiB and what the rings lock");
        let text = told(&config(), 32 << 20).expect("more than all of it");
        for said in ["buffers may take 32 MiB", "allows the process 32 MiB", "memory.max", "--pool"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        let tokio = Config { engine: Engine::TokioUring, ..config() };
        let text = told(&tokio, 8 << 20).expect("a buffer for each connection");
        assert!(text.contains("--max-connections"), "{text}");
        assert_eq!(memory_warning(&config(), 1024, None), None);
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_refused() {
        let refused =
            |config| WorkerLimits::resolve(&config, 1024, 0).expect_err("refused").to_string();
        assert!(refused(Config { buffer_size: some(1024), ..config() }).contains("--buffer"));
        assert!(refused(Config { pool: some(1 << 10), ..config() }).contains("--pool"));
        assert!(refused(Config { credit: some(1), ..config() }).contains("--credit"));
        assert!(refused(Config { credit: some(16 << 20), ..config() }).contains("--credit"));
    }
}
