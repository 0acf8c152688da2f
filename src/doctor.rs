//! `uring-echo doctor`: which features this machine offers a server, and how to get the others.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::config::{Config, SandboxMode};
use crate::engine::limits::WorkerLimits;
use crate::engine::{EngineError, try_rings};
use crate::ring::{Environment, RingError};
use crate::sandbox::{Sandbox, Uses};
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
    let rings = try_rings(config, nofile);
    findings.push(engines(rings.is_ok()));
    findings.push(io_uring(config, rings));
    findings.push(memlock(&environment));
    findings.push(queue_limit());
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

fn engines(has_rings: bool) -> Finding {
    let (standing, all, best) = match has_rings {
        true => (Standing::Fine, "uring and epoll run", "uring"),
        false => (Standing::Less, "only epoll runs", "epoll"),
    };
    let found =
        format!("{all}; serve --engine auto and loadgen's --transport auto take {best} here");
    Finding::new("engines", standing, found)
}

fn io_uring(config: &Config, rings: Result<Vec<String>, RingError>) -> Finding {
    match rings {
        Err(error) if config.needs_uring() => {
            Finding::new("io_uring", Standing::Broken, EngineError::from(error).to_string())
        }
        Err(error) => Finding::new("io_uring", Standing::Less, error.to_string()),
        Ok(missing) if missing.is_empty() => {
            Finding::new("io_uring", Standing::Fine, "everything the server knows how to use")
        }
        Ok(missing) => Finding::new("io_uring", Standing::Less, missing.join("; ")),
    }
}

fn memlock(environment: &Environment) -> Finding {
    let soft = environment.memlock_bytes;
    let hard = getrlimit(Resource::Memlock).maximum;
    let describe = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
    };
    let found = format!(
        "RLIMIT_MEMLOCK {} (hard {}), shared by all rings of this user from Linux 6.14 on",
        describe(soft),
        describe(hard)
    );
    let standing =
        if soft.is_some_and(|bytes| bytes < 1 << 20) { Standing::Less } else { Standing::Fine };
    Finding::new("memlock", standing, found)
}

fn queue_limit() -> Finding {
    let wanted = Config::default().backlog;
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
    let uses = Uses { engine: config.engine };
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
