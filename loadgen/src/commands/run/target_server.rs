//! Whom a run measures: the embedded server, or one that was there before.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;

use rustix::thread::sched_getaffinity;
use uring_echo::values::{CpuList, cpu_list};

use super::{RunError, refused};
use crate::model::load::Observe;
use crate::model::server::{Process, Server};
use crate::plan::config::RunConfig;
use crate::server::cpu_contention::CpuContention;
use crate::server::{EmbeddedServer, format_cpus, server_in_log, split_cpus};
use crate::sys::processes::ServerProcess;

/// The server of a run and how the CPUs are divided.
#[derive(Debug)]
pub(super) struct TargetServer {
    addr: SocketAddr,
    embedded: Option<EmbeddedServer>,
    /// What it says of itself, as far as that is known.
    description: Server,
    /// CPUs this process may use.
    allowed: Vec<usize>,
    /// CPUs of the generator; empty leaves it to the scheduler.
    generator_cpus: Vec<usize>,
    contention: CpuContention,
}

impl TargetServer {
    /// The server named by the configuration; without one it is started.
    pub(super) fn find(config: &RunConfig, log: Option<&Path>) -> Result<Self, RunError> {
        let allowed = allowed_cpus()?;
        let (embedded, server_cpus, generator_cpus) = match config.target {
            Some(_) => (None, Vec::new(), config.cpus.clone().unwrap_or_default()),
            None => {
                let (server_cpus, generator_cpus) = divide(config, &allowed);
                (Some(start(config, &server_cpus)?), server_cpus, generator_cpus)
            }
        };
        let started = embedded.as_ref().map(EmbeddedServer::addr);
        let addr = started.or(config.target).expect("one of the two");
        let description = match (&embedded, log) {
            (Some(server), _) => server.description().clone(),
            (None, Some(log)) => described_in(log, addr)?,
            (None, None) => Server::default(),
        };
        let contention = match &embedded {
            Some(server) => CpuContention::of_workers(server.pid(), &server_cpus),
            None => CpuContention::of(addr),
        };
        let generator_cpus = match (&embedded, &config.cpus) {
            (None, None) => apart(&contention, &allowed, config.threads),
            _ => generator_cpus,
        };
        let processes = if embedded.is_some() { Vec::new() } else { named(contention.pids()) };
        let description = Server { processes, ..description };
        Ok(Self { addr, embedded, description, allowed, generator_cpus, contention })
    }

    /// Where to connect to.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is ours.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Its processes, where they are visible.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.contention.pids().to_vec()
    }

    /// Whether a thread of the generator may run on a CPU of the server.
    pub(super) fn may_share_cpus(&self) -> bool {
        self.contention.overlaps(self.own_cpus())
    }

    /// CPUs for the generator; empty leaves it to the scheduler.
    pub(super) fn generator_cpus(&self) -> &[usize] {
        &self.generator_cpus
    }

    /// Whether one of so many generator threads may be on a CPU that the server or another one
    /// wants. Threads with CPUs of their own stay on the first ones of these.
    pub(super) fn must_share_with(&self, threads: u16) -> bool {
        let threads = usize::from(threads);
        let own = self.own_cpus();
        let pinned = !self.generator_cpus.is_empty();
        let own = if pinned { &own[..own.len().min(threads)] } else { own };
        threads > own.len() || self.contention.overlaps(own)
    }

    /// The CPUs that threads of the generator may run on.
    fn own_cpus(&self) -> &[usize] {
        if self.generator_cpus.is_empty() { &self.allowed } else { &self.generator_cpus }
    }

    /// What the server says of itself, as far as that is known.
    pub(super) fn description(&self) -> &Server {
        &self.description
    }

    /// Whether the embedded server has ended, and how.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // What waitpid fails with here is that somebody else has waited: then it is gone as well,
        // and stopping it will tell.
        self.embedded.as_mut().and_then(|server| server.try_exited().ok().flatten())
    }

    /// Stops the embedded server; returns what went wrong with that.
    pub(super) fn stop(self) -> Option<String> {
        self.embedded.and_then(EmbeddedServer::stop)
    }
}

/// CPUs that the server leaves to so many generator threads; none if there are too few, and then
/// the scheduler decides. What a server may use is for its owner to change.
fn apart(contention: &CpuContention, allowed: &[usize], threads: u16) -> Vec<usize> {
    let free = contention.free_of(allowed);
    if free.len() < usize::from(threads) { Vec::new() } else { free }
}

/// The processes that listen, of a server that somebody else started.
fn named(pids: &[u32]) -> Vec<Process> {
    let name = |&pid: &u32| Some(Process { pid, name: ServerProcess { pid }.name()? });
    pids.iter().filter_map(name).collect()
}

/// What the server at `addr` said of itself in a log.
fn described_in(log: &Path, addr: SocketAddr) -> Result<Server, RunError> {
    let failed = |cause: String| RunError::ServerLog { path: log.display().to_string(), cause };
    let text = std::fs::read_to_string(log).map_err(|error| failed(error.to_string()))?;
    server_in_log(&text, addr).ok_or_else(|| {
        failed(format!("no line tells that a server listens on port {}", addr.port()))
    })
}

fn start(config: &RunConfig, cpus: &[usize]) -> Result<EmbeddedServer, RunError> {
    let args: Vec<OsString> = config.server_args.iter().map(OsString::from).collect();
    let stamp = matches!(config.observe, Observe::Auto | Observe::Stamp);
    Ok(EmbeddedServer::start(&args, Some(&format_cpus(cpus)), stamp)?)
}

fn allowed_cpus() -> Result<Vec<usize>, RunError> {
    let set = sched_getaffinity(None).map_err(|e| refused("reading the CPU affinity")(e.into()))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// CPUs of the server and of the generator. What the user gave to one is not given to the other
/// unless nothing else is left.
fn divide(config: &RunConfig, allowed: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let others = |taken: &[usize]| {
        let rest: Vec<usize> = allowed.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
        if rest.is_empty() { allowed.to_vec() } else { rest }
    };
    match (server_cpus(&config.server_args), &config.cpus) {
        (Some(server), Some(generator)) => (server, generator.clone()),
        (Some(server), None) => {
            let generator = others(&server);
            (server, generator)
        }
        (None, Some(generator)) => (others(generator), generator.clone()),
        (None, None) => split_cpus(allowed),
    }
}

/// `--cpus` among the server's arguments. What is wrong with it the server will say.
fn server_cpus(args: &[String]) -> Option<Vec<usize>> {
    let at = args.iter().position(|arg| arg == "--cpus" || arg.starts_with("--cpus="))?;
    let list = args[at].strip_prefix("--cpus=").or_else(|| Some(args.get(at + 1)?.as_str()))?;
    cpu_list(list).ok().map(CpuList::sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    fn divided(args: &str) -> (Vec<usize>, Vec<usize>) {
        divide(&config(args), &[0, 1, 2])
    }

    #[test]
    fn nobody_gets_what_the_user_gave_to_the_other() {
        assert_eq!(divided("--cpus 1"), (vec![0, 2], vec![1]));
        assert_eq!(divided("-- --cpus 0-1"), (vec![0, 1], vec![2]));
        assert_eq!(divided("-- --cpus=2"), (vec![2], vec![0, 1]));
        assert_eq!(divided("--cpus 1 -- --cpus 1"), (vec![1], vec![1]));
        assert_eq!(divided("--cpus 0-2"), (vec![0, 1, 2], vec![0, 1, 2]));
    }
}
