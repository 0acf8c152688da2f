//! `uring-echo doctor`: which features this machine offers a server, and how to get the others.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::config::{BusyPoll, Config, SandboxMode};
use crate::engine::busy_poll::LimitedBy;
use crate::engine::busy_poll::observer::limited_by_quota;
use crate::engine::limits::{WorkerLimits, memory_warning};
use crate::engine::{EngineError, Trial, try_rings};
use crate::ring::{Environment, Setup};
use crate::sandbox::{Sandbox, Uses};
use crate::stamp::Engine;
use crate::sys::cgroup::{Groups, Limit, MEMORY_MAX};
use crate::sys::{conntrack, descriptors};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it should be.
    Fine,
    /// The server runs, with less than it could have.
    Less,
    /// The server does not run.
    Broken,
}

/// One thing examined.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was examined.
    pub subject: &'static str,
    /// Its state.
    pub standing: Standing,
    /// What was found, with the remedy where there is one.
    pub found: String,
}

impl Finding {
    fn new(subject: &'static str, standing: Standing, found: impl Into<String>) -> Self {
        Self { subject, standing, found: found.into() }
    }
}

/// A seccomp profile for container engines: what the two programs need, io_uring included.
pub const SECCOMP_PROFILE: &str = include_str!("../docker/seccomp.json");

/// Examines everything that a server of this configuration needs. It applies the sandbox to this
/// process to find out whether it can, so it is the last thing that a process does.
#[must_use]
pub fn examine(config: &Config) -> Vec<Finding> {
    let environment = Environment::read();
    let mut findings = vec![Finding::new("kernel", Standing::Fine, &environment.kernel_release)];
    let limit = descriptors::raise_limit().unwrap_or_else(|_| descriptors::limit());
    let nofile = limit.enforced();
    findings.push(limits(config, nofile));
    let trial = try_rings(config, nofile);
    findings.push(engines(config, &trial));
    findings.push(memlock(config, nofile, &environment));
    findings.push(memory(config, nofile));
    findings.push(io_uring(config, trial));
    findings.push(busy_poll(config));
    findings.push(queue_limit(config.backlog));
    findings.extend(connection_tracking());
    findings.push(sandbox(config));
    findings
}

fn limits(config: &Config, nofile: u32) -> Finding {
    match WorkerLimits::resolve(config, nofile, 0) {
        Err(error) => Finding::new("limits", Standing::Broken, error.to_string()),
        Ok(limits) => {
            let files = format!("RLIMIT_NOFILE {nofile}: {limits} per worker");
            Finding::new("limits", Standing::Fine, files)
        }
    }
}

fn engines(config: &Config, trial: &Trial) -> Finding {
    let (had, all) = (trial.workers, config.workers);
    let (standing, found, best) = match &trial.refused {
        None => (Standing::Fine, "uring and epoll run".to_owned(), "uring"),
        Some(_) if had == 0 => (Standing::Less, "only epoll runs".to_owned(), "epoll"),
        Some(_) => {
            let found = format!("uring runs with {had} of {all} workers, epoll with all");
            (Standing::Less, found, "epoll")
        }
    };
    let found =
        format!("{found}; serve --engine auto and loadgen's --transport auto take {best} here");
    Finding::new("engines", standing, found)
}

fn io_uring(config: &Config, trial: Trial) -> Finding {
    if let Some((workers, reason)) = trial.fewer_workers() {
        let found = format!("{workers} of {} workers: {reason}", config.workers);
        return Finding::new("io_uring", Standing::Less, found);
    }
    match trial.refused {
        Some(error) if config.needs_uring() => {
            Finding::new("io_uring", Standing::Broken, EngineError::from(error).to_string())
        }
        Some(error) => Finding::new("io_uring", Standing::Less, error.to_string()),
        None if trial.degraded.is_empty() => {
            Finding::new("io_uring", Standing::Fine, "everything the server knows how to use")
        }
        None => Finding::new("io_uring", Standing::Less, trial.degraded.join("; ")),
    }
}

/// What the rings take of what this user may lock. Whether it is there only a trial shows: other
/// processes of this user share it, and one with CAP_IPC_LOCK is exempt.
fn memlock(config: &Config, nofile: u32, environment: &Environment) -> Finding {
    let soft = environment.memlock_bytes;
    let hard = getrlimit(Resource::Memlock).maximum;
    let describe = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
    };
    let setups = (0..config.workers.get())
        .flat_map(|index| WorkerLimits::resolve(config, nofile, index))
        .map(|limits| limits.ring)
        .chain([Setup::CALLS]);
    let need: u64 = setups.map(|setup| setup.locked_bytes()).sum();
    let found = format!(
        "RLIMIT_MEMLOCK {} (hard {}), shared by all rings of this user from Linux 6.14 on; the \
         rings of {} workers take {} KiB of it",
        describe(soft),
        describe(hard),
        config.workers,
        need >> 10
    );
    let short = config.engine != Engine::Epoll && soft.is_some_and(|bytes| bytes < need);
    Finding::new("memlock", if short { Standing::Less } else { Standing::Fine }, found)
}

fn memory(config: &Config, nofile: u32) -> Finding {
    let limit = Groups::read().tightest(MEMORY_MAX);
    if let Some(warning) = memory_warning(config, nofile, limit.as_ref()) {
        return Finding::new("memory", Standing::Less, warning);
    }
    let found = match limit {
        Some(Limit { file, value }) => {
            format!("the control group allows {} MiB ({})", value >> 20, file.display())
        }
        None => "no limit by a control group".to_owned(),
    };
    Finding::new("memory", Standing::Fine, found)
}

fn queue_limit(wanted: i32) -> Finding {
    match crate::listen::effective_backlog(wanted) {
        Some(limit) if i64::from(limit) == i64::from(wanted) => {
            Finding::new("accept queue", Standing::Fine, format!("backlog {wanted} is granted"))
        }
        Some(limit) => Finding::new(
            "accept queue",
            Standing::Less,
            format!("backlog {wanted} is capped at {limit}: sysctl -w net.core.somaxconn={wanted}"),
        ),
        None => Finding::new("accept queue", Standing::Less, "net.core.somaxconn is not readable"),
    }
}

fn busy_poll(config: &Config) -> Finding {
    let mode = config.busy_poll;
    match limited_by_quota(config.workers.get()) {
        LimitedBy::Quota if mode == BusyPoll::Always => {
            let found = "always spins into the CPU quota of this control group; use auto or off";
            Finding::new("busy poll", Standing::Less, found)
        }
        limit => {
            let found = format!("{mode}, limited by: {}", limit.name());
            Finding::new("busy poll", Standing::Fine, found)
        }
    }
}

/// Connection tracking costs a third of a connection and drops SYNs when its table is full.
fn connection_tracking() -> Option<Finding> {
    let conntrack::Usage { count, limit } = conntrack::usage()?;
    if count == 0 {
        return None;
    }
    let found = format!(
        "nf_conntrack tracks connections here, loopback too ({count} of {limit}): each costs about \
         a third more, and a full table drops SYNs; a fresh network namespace has none"
    );
    Some(Finding::new("conntrack", Standing::Less, found))
}

fn sandbox(config: &Config) -> Finding {
    let mut sandbox = Sandbox::with_trial(SandboxMode::Auto);
    let uses = Uses {
        engine: config.engine,
        takeover: config.takeover.is_some(),
        admin: config.admin.map(|_| 0),
    };
    let outcome =
        sandbox.restrict_before_workers().and_then(|()| sandbox.restrict_when_ready(uses));
    match outcome {
        Err(error) => Finding::new("sandbox", Standing::Less, error.to_string()),
        Ok(()) if sandbox.missing.is_empty() => {
            let active = format!("ring restrictions, {}", sandbox.active.join(", "));
            Finding::new("sandbox", Standing::Fine, active)
        }
        Ok(()) => Finding::new("sandbox", Standing::Less, sandbox.missing.join("; ")),
    }
}
